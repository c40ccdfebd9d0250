//! `quorate audit verify`: reads the files itself, and compares them with what the cluster remembers of them.

use std::path::{Path, PathBuf};

use clap::Args;
use quorate_actors::audit::{Anchor, Finding, Head, RecordHash, Verdict, Verification, verify};
use quorate_proto_api::channel::CALL_LIMIT;
use quorate_proto_api::cluster::audit_client::AuditClient;
use quorate_proto_api::cluster::{GetTrailRequest, GetTrailResponse};
use quorate_raft_store::disk::RealDisk;
use serde::Serialize;

use super::look_at;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::json::Wide;
use crate::cli::output::answer;
use crate::cli::socket::AdminArgs;
use crate::cli::text::printable;

/// What follows the options.
const HELP: &str = "\
With a running node, the trail is compared with the anchors that the cluster keeps of it, and with the record that the node \
wrote last. With --dir alone no node is asked: then a trail that somebody made anew, or cut off, with all hashes made right \
looks intact. With both, the files in DIR are compared with what that node knows, whichever member they are of: copies are \
best compared at another member.

Exit codes: 0 intact, 5 cut off, 6 altered.

Examples:
  quorate audit verify
  quorate audit verify --dir /var/lib/quorate/audit
  quorate audit verify --dir /mnt/copy/audit --socket /run/quorate/admin/admin.sock";

/// What `quorate audit verify` takes.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(in crate::cli) struct VerifyArgs {
    #[command(flatten)]
    admin: AdminArgs,

    /// The directory with the files [default: the one of the node that is asked]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Verifies, and says what came of it.
pub(super) async fn run(args: VerifyArgs) -> Result<(), Failure> {
    let VerifyArgs { admin, dir } = args;
    let known = match &dir {
        Some(_) if !admin.names_a_socket() => None,
        Some(_) | None => Some(ask(&admin).await?),
    };
    let directory = match (&dir, &known) {
        (Some(dir), _) => dir.clone(),
        (None, Some(known)) => PathBuf::from(&known.directory),
        (None, None) => return Err(Failure::Usage("--dir: name the directory with the files".to_owned())),
    };
    look_at(&directory)?;
    // Whose trail it is decides which anchors count. Of a node's own directory that node knows, of a copy its files say it.
    let member = if dir.is_some() { judge(&directory, &[])?.member } else { None };
    let (anchors, head) = known.as_ref().map_or((Vec::new(), None), |known| anchors(known, member, dir.is_none()));
    let all: Vec<Anchor> = anchors.into_iter().chain(head).collect();
    let told = judge(&directory, &all)?;
    if told.head.records == 0 && all.is_empty() && told.verdict == Verdict::Intact {
        // The trail of a node has a first record as soon as it has a file.
        return Err(Failure::Usage(format!("{}: there is no record of an audit trail there", directory.display())));
    }
    answer(
        admin.output,
        &text(&directory, known.is_some(), all.len(), &told),
        &VerificationJson::new(&directory, known.is_some(), &told),
    )?;
    match told.verdict {
        Verdict::Intact => Ok(()),
        Verdict::CutOff => Err(Failure::Trail { exit: Exit::CutOff, what: "cut off" }),
        Verdict::Altered => Err(Failure::Trail { exit: Exit::Altered, what: "altered" }),
    }
}

async fn ask(admin: &AdminArgs) -> Result<GetTrailResponse, Failure> {
    let connection = admin.connect()?;
    let answer = AuditClient::new(connection.channel())
        .get_trail(connection.request(GetTrailRequest {}, CALL_LIMIT))
        .await
        .map_err(connection.failed("verify the audit trail"))?;
    Ok(answer.into_inner())
}

/// The anchors of a member's trail, and the head of the node's own, if the files are those it writes.
fn anchors(known: &GetTrailResponse, member: Option<u64>, is_own: bool) -> (Vec<Anchor>, Option<Anchor>) {
    let member = member.unwrap_or(known.member);
    let anchors = known.anchors.iter().filter(|anchor| anchor.member == member).filter_map(|anchor| {
        let head = Head { records: anchor.records, hash: hash(&anchor.hash)? };
        Some(Anchor { name: format!("the anchor at log index {}", anchor.index), head })
    });
    let head = known.head.as_ref().filter(|head| is_own && head.records > 0).and_then(|head| {
        let head = Head { records: head.records, hash: hash(&head.hash)? };
        Some(Anchor { name: "the head that the node remembers".to_owned(), head })
    });
    (anchors.collect(), head)
}

fn hash(bytes: &[u8]) -> Option<RecordHash> {
    bytes.try_into().ok().map(RecordHash)
}

fn judge(directory: &Path, anchors: &[Anchor]) -> Result<Verification, Failure> {
    verify(&RealDisk, directory, anchors)
        .map_err(|error| Failure::Local { deed: "verify the audit trail", cause: Box::new(error) })
}

fn text(directory: &Path, was_asked: bool, known: usize, told: &Verification) -> String {
    let Verification { verdict, first, head, files, findings, notes, met, before, member: _ } = told;
    let mut lines = vec![format!(
        "{}: records {first} to {} in {files} files of {}",
        verdict.name(),
        head.records,
        directory.display()
    )];
    lines.push(format!("last record {} with hash {}", head.records, head.hash));
    lines.push(match (was_asked, known) {
        (false, _) => "compared with no anchor: no node was asked".to_owned(),
        (true, 0) => "compared with no anchor: the cluster has none of this trail yet".to_owned(),
        (true, _) => format!(
            "{} of {known} known heads are met; {} are of records that are not kept any more",
            met.len(),
            before.len()
        ),
    });
    lines.extend(findings.iter().map(|finding| format!("{}: {}", place(finding), finding.flaw)));
    lines.extend(notes.iter().map(|note| format!("note: {note}")));
    lines.iter().map(|line| printable(line) + "\n").collect()
}

fn place(finding: &Finding) -> String {
    match (&finding.file, finding.line) {
        (Some(file), Some(line)) => format!("{}, {file} line {line}", finding.verdict.name()),
        (Some(file), None) => format!("{}, {file}", finding.verdict.name()),
        (None, _) => format!("{}, record {}", finding.verdict.name(), finding.record),
    }
}

/// What was found, for programs.
#[derive(Serialize)]
struct VerificationJson<'a> {
    verdict: &'static str,
    directory: String,
    first_record: Wide<u64>,
    last_record: Wide<u64>,
    last_hash: String,
    files: usize,
    compared_with_a_node: bool,
    anchors_met: Vec<&'a str>,
    findings: Vec<FindingJson<'a>>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct FindingJson<'a> {
    verdict: &'static str,
    file: Option<&'a str>,
    line: Option<u64>,
    record: Wide<u64>,
    what: String,
}

impl<'a> VerificationJson<'a> {
    fn new(directory: &Path, was_asked: bool, told: &'a Verification) -> Self {
        let findings = told.findings.iter().map(|finding| FindingJson {
            verdict: finding.verdict.name(),
            file: finding.file.as_deref(),
            line: finding.line,
            record: Wide(finding.record),
            what: finding.flaw.to_string(),
        });
        Self {
            verdict: told.verdict.name(),
            directory: directory.display().to_string(),
            first_record: Wide(told.first),
            last_record: Wide(told.head.records),
            last_hash: told.head.hash.to_string(),
            files: told.files,
            compared_with_a_node: was_asked,
            anchors_met: told.met.iter().map(|anchor| anchor.name.as_str()).collect(),
            findings: findings.collect(),
            notes: told.notes.iter().map(ToString::to_string).collect(),
        }
    }
}
