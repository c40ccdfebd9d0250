//! A backup is opened in a process of its own: what is in it, damaged or forged, can end that process and nothing else, and
//! can make it use so much memory and no more.
//!
//! ```text
//!   quorate cluster backup verify ──► quorate cluster backup verify --scratch     limits its own memory, opens the file,
//!        │   the key, by standard input ──►                                        writes one line of JSON
//!        └── one line: what was found, or why it is refused ◄──
//! ```

use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::resource::{Resource, setrlimit};
use quorate_actors::backup::load;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::described::BackupJson;
use super::verify::{DEED, VerifiedJson, VerifyArgs, failed, read_all};
use crate::cli::failure::Failure;
use crate::cli::files::STANDARD_INPUT;
use crate::cli::output::say;
use crate::cli::recovery_private_key;
use crate::hardening;

/// Address space of the process beside what grows with the backup: the program, its threads' stacks and the reserves of its
/// allocator, most of which is never used.
const MEMORY_BASE: u64 = 1 << 30;

/// Address space for each byte of the backup. A state takes about twice its bytes in a backup, and while it is loaded its
/// tables are copied once as they grow.
const MEMORY_PER_BYTE: u64 = 8;

/// Most bytes of a key's text.
const KEY_TEXT_LIMIT: u64 = 16 * 1024;

/// Most bytes of the answer.
const ANSWER_LIMIT: u64 = 1 << 20;

/// The one line that the process writes.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Verified(Box<VerifiedJson>),
    Refused(String),
}

/// Has a process of its own verify the whole.
pub(super) fn verify(args: &VerifyArgs, key: &Path) -> Result<VerifiedJson, Failure> {
    let local = |cause: io::Error| Failure::Local { deed: DEED, cause: Box::new(cause) };
    let text = key_text(key)?;
    let mut child = Command::new(std::env::current_exe().map_err(local)?)
        .args(["cluster", "backup", "verify", "--scratch", "--recovery-key", STANDARD_INPUT])
        .args(args.signer.arguments())
        .arg("--")
        .arg(&args.file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(local)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that has ended already says why by its answer.
        let _ = stdin.write_all(&text);
    }
    drop(text);
    let answer = child.stdout.take().map(|stdout| read_all(stdout, ANSWER_LIMIT)).transpose().map_err(local)?;
    let status = child.wait().map_err(local)?;
    match serde_json::from_slice(&answer.unwrap_or_default()) {
        Ok(Answer::Verified(verified)) if status.success() => Ok(*verified),
        Ok(Answer::Refused(story)) => Err(Failure::Local { deed: DEED, cause: story.into() }),
        Ok(Answer::Verified(_)) | Err(_) => Err(Failure::Local {
            deed: DEED,
            cause: format!("the process that opened it ended without an answer ({status}): it may have needed more memory than it was given").into(),
        }),
    }
}

/// The key's text, from the file or from standard input. What it is, the other process looks at.
fn key_text(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    // Refuses a file that others may read, and what is no key, before a process is started.
    if path != Path::new(STANDARD_INPUT) {
        recovery_private_key::read(path)?;
    }
    let failed = |cause| Failure::Given { path: path.to_owned(), cause };
    let text = if path == Path::new(STANDARD_INPUT) {
        read_all(io::stdin().lock(), KEY_TEXT_LIMIT)
    } else {
        std::fs::File::open(path).and_then(|file| read_all(file, KEY_TEXT_LIMIT))
    };
    text.map(Zeroizing::new).map_err(failed)
}

/// Is the process of its own.
pub(super) fn serve(args: &VerifyArgs) -> Result<(), Failure> {
    hardening::shut();
    let answer = match opened(args) {
        Ok(verified) => Answer::Verified(Box::new(verified)),
        Err(failure) => Answer::Refused(causes(&failure)),
    };
    let line = serde_json::to_string(&answer).map_err(io::Error::from)?;
    say(&line)
}

fn opened(args: &VerifyArgs) -> Result<VerifiedJson, Failure> {
    let key = recovery_private_key::read(Path::new(STANDARD_INPUT))?;
    let reader = args.signer.open(&args.file, DEED)?;
    let metadata = std::fs::metadata(&args.file);
    let bytes = metadata.map_err(|cause| Failure::Given { path: args.file.clone(), cause })?.len();
    let limit = MEMORY_BASE.saturating_add(bytes.saturating_mul(MEMORY_PER_BYTE));
    setrlimit(Resource::RLIMIT_AS, limit, limit)
        .map_err(|errno| Failure::Local { deed: DEED, cause: Box::new(io::Error::from(errno)) })?;
    let (_state, checked) = load(reader, &key, |_bytes| {}).map_err(failed(DEED))?;
    Ok(VerifiedJson {
        backup: BackupJson::new(&args.file, &checked.header, bytes),
        opened: true,
        roots: checked.roots,
        token_keys: checked.token_keys,
        unopened: checked.unopened.iter().map(ToString::to_string).collect(),
    })
}

/// Why, without what was tried: the other process says that.
fn causes(failure: &Failure) -> String {
    match std::error::Error::source(failure) {
        None => failure.to_string(),
        Some(source) => {
            let mut text = source.to_string();
            let mut cause = source.source();
            while let Some(next) = cause {
                text = format!("{text}: {next}");
                cause = next.source();
            }
            text
        }
    }
}
