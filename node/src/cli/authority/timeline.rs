//! `quorate authority timeline`: the lives of authorities side by side, a lane each, from the first step that is remembered
//! to the last that is planned.

use std::fmt;

use clap::Args;
use quorate_proto_api::channel::CALL_LIMIT;
use quorate_proto_api::cluster::authorities_client::AuthoritiesClient;
use quorate_proto_api::cluster::{
    AuthorityKind, ShowTimelineRequest, ShowTimelineResponse, TimelineEvent, TimelineStep,
};
use quorate_proto_identity::UnixSeconds;
use serde::Serialize;

use super::json;
use crate::cli::failure::Failure;
use crate::cli::json::Wide;
use crate::cli::output::answer;
use crate::cli::socket::ReadArgs;
use crate::cli::text::printable;

/// What follows the options.
const HELP: &str = "\
A lane for each authority, times from above to below:
  ╎ prepared: in the bundle, not signing     ┃ active: signs
  │ old: in the bundle, signs no more        ┊ tainted: what it signed is replaced
  ● a step that was taken                    ○ a step to come: when it falls due, if nothing is ordered meanwhile

An activation may come later than is shown: it waits until every live member knows the new authority. \
`quorate authority activate` says for whom. A step that is `due` and not taken waits for just that.";

/// Digits of an ID that tell the authorities of a timeline apart.
const SHORT: usize = 10;

/// What `quorate authority timeline` takes.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct TimelineArgs {
    #[command(flatten)]
    read: ReadArgs,
}

/// `quorate.cluster.v1.TimelineStep`, kind and event as words.
#[derive(Serialize)]
struct StepJson<'a> {
    at: Wide<i64>,
    kind: &'static str,
    event: &'static str,
    authority_id: &'a str,
    done: bool,
}

impl<'a> From<&'a TimelineStep> for StepJson<'a> {
    fn from(step: &'a TimelineStep) -> Self {
        Self {
            at: Wide(step.at),
            kind: json::kind(step.kind()),
            event: word(step.event()),
            authority_id: &step.authority_id,
            done: step.done,
        }
    }
}

/// `quorate.cluster.v1.ShowTimelineResponse`
#[derive(Serialize)]
struct TimelineJson<'a> {
    now: Wide<i64>,
    steps: Vec<StepJson<'a>>,
}

/// Draws the timeline.
pub(super) async fn run(args: TimelineArgs) -> Result<(), Failure> {
    let connection = args.read.connect()?;
    let timeline = AuthoritiesClient::new(connection.channel())
        .timeline(connection.request(ShowTimelineRequest {}, CALL_LIMIT))
        .await
        .map_err(connection.failed("show the timeline"))?
        .into_inner();
    let json = TimelineJson { now: Wide(timeline.now), steps: timeline.steps.iter().map(StepJson::from).collect() };
    answer(args.read.output(), &Drawing(&timeline), &json)
}

/// A timeline as it is drawn.
struct Drawing<'a>(&'a ShowTimelineResponse);

impl fmt::Display for Drawing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [(AuthorityKind::X509, "Roots (x509)"), (AuthorityKind::Jwt, "Token keys (jwt)")];
        for (place, (kind, title)) in kinds.into_iter().enumerate() {
            if place > 0 {
                writeln!(f)?;
            }
            writeln!(f, "{title}\n")?;
            let steps: Vec<&TimelineStep> = self.0.steps.iter().filter(|step| is_drawn(step, kind)).collect();
            draw(f, &steps, self.0.now)?;
        }
        writeln!(f, "\n╎ prepared  ┃ active  │ old  ┊ tainted     ● done  ○ to come")
    }
}

/// That it is removed from the state after its end is of no interest to the eye.
fn is_drawn(step: &TimelineStep, kind: AuthorityKind) -> bool {
    step.kind() == kind && step.event() != TimelineEvent::Pruned
}

/// One authority's life so far, while rows are drawn.
struct Lane<'a> {
    id: &'a str,
    stroke: char,
}

fn draw(f: &mut fmt::Formatter<'_>, steps: &[&TimelineStep], now: i64) -> fmt::Result {
    let mut lanes: Vec<Lane<'_>> = Vec::new();
    for step in steps {
        if !lanes.iter().any(|lane| lane.id == step.authority_id) {
            lanes.push(Lane { id: &step.authority_id, stroke: ' ' });
        }
    }
    let mut now_is_drawn = false;
    for step in steps {
        // What is due and was not taken stands below the line: it is still to come.
        if !step.done && !now_is_drawn {
            now_line(f, &lanes, now)?;
            now_is_drawn = true;
        }
        let mark = if step.done { '●' } else { '○' };
        let strokes: String = lanes
            .iter()
            .flat_map(|lane| [if lane.id == step.authority_id { mark } else { lane.stroke }, ' '])
            .collect();
        let when = UnixSeconds(step.at).to_string();
        let away = away(step.at, now, step.done);
        writeln!(f, "  {strokes} {when}  {away:>9}  {:<SHORT$}  {}", short(&step.authority_id), sentence(step))?;
        if let Some(lane) = lanes.iter_mut().find(|lane| lane.id == step.authority_id) {
            lane.stroke = stroke(step.event(), lane.stroke);
        }
        // Two sign at no time: the one that begins ends the other's, and what is planned does not say so.
        if step.event() == TimelineEvent::Activated {
            for lane in lanes.iter_mut().filter(|lane| lane.id != step.authority_id && lane.stroke == '┃') {
                lane.stroke = '│';
            }
        }
    }
    if !now_is_drawn {
        now_line(f, &lanes, now)?;
    }
    Ok(())
}

fn now_line(f: &mut fmt::Formatter<'_>, lanes: &[Lane<'_>], now: i64) -> fmt::Result {
    let strokes: String = lanes.iter().flat_map(|lane| [lane.stroke, ' ']).collect();
    writeln!(f, "  {strokes} {}  ──── now ────", UnixSeconds(now))
}

/// How an authority's lane goes on after a step.
fn stroke(event: TimelineEvent, before: char) -> char {
    match event {
        TimelineEvent::Prepared => '╎',
        TimelineEvent::Activated => '┃',
        TimelineEvent::Retired => '│',
        TimelineEvent::Tainted => '┊',
        TimelineEvent::Revoked | TimelineEvent::Ended | TimelineEvent::Pruned => ' ',
        TimelineEvent::Published
        | TimelineEvent::Confirmed
        | TimelineEvent::Replaced
        | TimelineEvent::Suspected
        | TimelineEvent::Unspecified => before,
    }
}

fn word(event: TimelineEvent) -> &'static str {
    match event {
        TimelineEvent::Unspecified => "unknown",
        TimelineEvent::Prepared => "prepared",
        TimelineEvent::Published => "published",
        TimelineEvent::Confirmed => "confirmed by peers",
        TimelineEvent::Activated => "activated",
        TimelineEvent::Retired => "retired",
        TimelineEvent::Replaced => "replaced",
        TimelineEvent::Suspected => "suspected",
        TimelineEvent::Tainted => "tainted",
        TimelineEvent::Revoked => "revoked",
        TimelineEvent::Ended => "ended",
        TimelineEvent::Pruned => "pruned",
    }
}

fn sentence(step: &TimelineStep) -> &'static str {
    match (step.event(), step.done) {
        (TimelineEvent::Unspecified, _) => "something that this program is too old to know",
        (TimelineEvent::Prepared, true) => "prepared",
        (TimelineEvent::Prepared, false) => "is made and prepared",
        (TimelineEvent::Published, _) => "served by every live member: readers elsewhere have their time",
        (TimelineEvent::Confirmed, _) => "in force at every known peer",
        (TimelineEvent::Activated, true) => "activated",
        (TimelineEvent::Activated, false) => "is activated",
        (TimelineEvent::Retired, _) => "old: signs no more",
        (TimelineEvent::Replaced, _) => "its replacement was ordered",
        (TimelineEvent::Suspected, _) => "suspect: somebody may have its key",
        (TimelineEvent::Tainted, true) => "tainted",
        (TimelineEvent::Tainted, false) => "is tainted",
        (TimelineEvent::Revoked, true) => "revoked: out of the bundle",
        (TimelineEvent::Revoked, false) => "is revoked",
        (TimelineEvent::Ended | TimelineEvent::Pruned, true) => "ended",
        (TimelineEvent::Ended | TimelineEvent::Pruned, false) => "ends",
    }
}

/// An ID as it is told apart; what is not made yet has none.
fn short(id: &str) -> String {
    if id.is_empty() { "(next)".to_owned() } else { printable(id).chars().take(SHORT).collect() }
}

/// How far an instant is from now.
fn away(at: i64, now: i64, done: bool) -> String {
    let seconds = at.saturating_sub(now);
    match (seconds, done) {
        (..=0, false) => "due".to_owned(),
        (1.., _) => format!("in {}", roughly(seconds)),
        (..=0, true) => format!("{} ago", roughly(seconds.saturating_neg())),
    }
}

/// A length of time in its largest unit, with one digit more where that is a small number of them.
fn roughly(seconds: i64) -> String {
    const UNITS: [(&str, i64); 3] = [("d", 86_400), ("h", 3_600), ("m", 60)];
    for (name, unit) in UNITS {
        let tenths = seconds.saturating_mul(10).checked_div(unit).unwrap_or_default();
        match tenths {
            100.. => return format!("{}{name}", tenths / 10),
            10.. if tenths % 10 == 0 => return format!("{}{name}", tenths / 10),
            10.. => return format!("{}.{}{name}", tenths / 10, tenths % 10),
            _ => {}
        }
    }
    format!("{seconds}s")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(at: i64, event: TimelineEvent, id: &str, done: bool) -> TimelineStep {
        TimelineStep { at, kind: AuthorityKind::X509.into(), event: event.into(), authority_id: id.into(), done }
    }

    #[test]
    fn lives_are_drawn_side_by_side_with_what_was_above_and_what_comes_below_the_present() {
        let steps = vec![
            step(0, TimelineEvent::Prepared, "aaaaaaaaaaaaaaaa", true),
            step(0, TimelineEvent::Activated, "aaaaaaaaaaaaaaaa", true),
            step(60, TimelineEvent::Prepared, "bbbbbbbbbbbbbbbb", true),
            step(100, TimelineEvent::Activated, "bbbbbbbbbbbbbbbb", false),
            step(120, TimelineEvent::Ended, "aaaaaaaaaaaaaaaa", false),
            step(120, TimelineEvent::Prepared, "", false),
        ];
        let drawn = Drawing(&ShowTimelineResponse { steps, now: 90 }).to_string();
        assert_eq!(
            drawn.lines().take(9).collect::<Vec<_>>().join("\n"),
            "Roots (x509)\n\n\
             \x20 ●      1970-01-01T00:00:00Z   1.5m ago  aaaaaaaaaa  prepared\n\
             \x20 ●      1970-01-01T00:00:00Z   1.5m ago  aaaaaaaaaa  activated\n\
             \x20 ┃ ●    1970-01-01T00:01:00Z    30s ago  bbbbbbbbbb  prepared\n\
             \x20 ┃ ╎    1970-01-01T00:01:30Z  ──── now ────\n\
             \x20 ┃ ○    1970-01-01T00:01:40Z     in 10s  bbbbbbbbbb  is activated\n\
             \x20 ○ ┃    1970-01-01T00:02:00Z     in 30s  aaaaaaaaaa  ends\n\
             \x20   ┃ ○  1970-01-01T00:02:00Z     in 30s  (next)      is made and prepared",
            "{drawn}"
        );
        assert!(drawn.contains("Token keys (jwt)"), "{drawn}");
    }

    #[test]
    fn a_step_whose_time_has_come_and_that_was_not_taken_is_due() {
        assert_eq!(away(50, 60, false), "due");
        assert_eq!(away(50, 60, true), "10s ago");
        assert_eq!(away(60 + 5_400, 60, false), "in 1.5h");
    }

    #[test]
    fn lengths_of_time_are_told_in_one_unit() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (60, "1m"), (90, "1.5m"), (3_600, "1h"), (2_592_000, "30d")] {
            assert_eq!(roughly(seconds), text);
        }
    }
}
