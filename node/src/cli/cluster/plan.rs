//! `quorate cluster plan`

use clap::{Args, ValueEnum};
use quorate_proto_api::channel::CALL_LIMIT;
use quorate_proto_api::cluster::cluster_client::ClusterClient;
use quorate_proto_api::cluster::{GetPlanRequest, Plan, SetPlanRequest};
use serde::Serialize;

use super::change::{NOTHING_DONE, lines};
use crate::cli::failure::Failure;
use crate::cli::json::Wide;
use crate::cli::output::{Format, answer, say, say_json};
use crate::cli::socket::ReadArgs;
use crate::cli::text::Facts;
use crate::duration::Seconds;

/// What follows the options.
const EXAMPLES: &str = "\
Without options the plan is shown. An odd number of voters is right: four bear the loss of one, as three do, and need one \
more for every write. Voters are spread over as many regions as there are members in.

Examples:
  quorate cluster plan
  quorate cluster plan --voters 5 --dead-voter-grace 10m
  quorate cluster plan --automatic no";

/// What `quorate cluster plan` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    read: ReadArgs,

    /// How many voters, 1 to 7
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=7))]
    voters: Option<u32>,

    /// How long a voter may be silent before a healthy learner takes its place
    #[arg(long, value_name = "TIME")]
    dead_voter_grace: Option<Seconds>,

    /// Whether the leader promotes and replaces by itself
    #[arg(long, value_enum, value_name = "YES|NO")]
    automatic: Option<Answer>,

    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Answer {
    Yes,
    No,
}

/// `quorate.cluster.v1.Plan`
#[derive(Serialize)]
pub(super) struct PlanJson {
    voters: u32,
    dead_voter_grace: u32,
    automatic: bool,
}

impl From<&Plan> for PlanJson {
    fn from(plan: &Plan) -> Self {
        let Plan { voters, dead_voter_grace, automatic } = *plan;
        Self { voters, dead_voter_grace, automatic }
    }
}

/// `quorate.cluster.v1.SetPlanResponse`
#[derive(Serialize)]
struct SetPlanJson<'a> {
    dry_run: bool,
    plan: PlanJson,
    sentences: &'a [String],
    warnings: &'a [String],
    log_index: Wide<u64>,
}

/// Shows the plan, or changes what was given.
pub(super) async fn run(args: PlanArgs) -> Result<(), Failure> {
    let connection = args.read.connect()?;
    let mut client = ClusterClient::new(connection.channel());
    let grace = args.dead_voter_grace.map(|time| {
        u32::try_from(time.get())
            .map_err(|_| Failure::Usage(format!("--dead-voter-grace {time}: so long a time cannot be counted")))
    });
    let message = SetPlanRequest {
        voters: args.voters,
        dead_voter_grace: grace.transpose()?,
        automatic: args.automatic.map(|answer| answer == Answer::Yes),
        dry_run: args.dry_run,
    };
    if message == (SetPlanRequest { dry_run: args.dry_run, ..SetPlanRequest::default() }) {
        const DEED: &str = "show the plan";
        let request = connection.request(GetPlanRequest {}, CALL_LIMIT);
        let shown = client.get_plan(request).await.map_err(connection.failed(DEED))?.into_inner();
        let plan = shown.plan.ok_or_else(|| no_plan(DEED))?;
        return answer(args.read.output(), &described(&plan), &PlanJson::from(&plan));
    }
    const DEED: &str = "change the plan";
    let request = connection.request(message, CALL_LIMIT);
    let set = client.set_plan(request).await.map_err(connection.failed(DEED))?.into_inner();
    let plan = set.plan.ok_or_else(|| no_plan(DEED))?;
    match args.read.output() {
        Format::Table => {
            say(&lines(&set.sentences, &set.warnings))?;
            say(&described(&plan).to_string())?;
            if args.dry_run { say(NOTHING_DONE) } else { Ok(()) }
        }
        Format::Json => say_json(&SetPlanJson {
            dry_run: args.dry_run,
            plan: PlanJson::from(&plan),
            sentences: &set.sentences,
            warnings: &set.warnings,
            log_index: Wide(set.log_index),
        }),
    }
}

fn no_plan(deed: &'static str) -> Failure {
    Failure::Answer { deed, what: "no plan".to_owned() }
}

fn described(plan: &Plan) -> Facts {
    let mut facts = Facts::new();
    facts
        .add("Voters", plan.voters)
        .add("Dead voter grace", Seconds::new(plan.dead_voter_grace.into()))
        .add("Automatic", if plan.automatic { "yes" } else { "no" });
    facts
}

/// The plan on one line.
pub(super) fn in_short(plan: &Plan) -> String {
    let voters = match plan.voters {
        1 => "1 voter".to_owned(),
        voters => format!("{voters} voters"),
    };
    if plan.automatic {
        format!("{voters}; a silent one is replaced after {}", Seconds::new(plan.dead_voter_grace.into()))
    } else {
        format!("{voters}; roles change by command alone")
    }
}
