//! A workload that uses the `spiffe` crate, as a stranger's program would: it knows nothing of ours but the Workload
//! API's socket, found by `SPIFFE_ENDPOINT_SOCKET`.
//!
//! ```text
//!   fetch ID                     SVID and bundles
//!   renew ID SECONDS RENEWALS    at every instant a valid SVID; at least so many new ones
//!   jwt ID AUDIENCE              fetch; validate locally and by ValidateJWTSVID; a wrong audience is refused
//!   serve ID PEER                mutual TLS: answers PEER, once, after refusing whoever else comes
//!   dial ADDRESS PEER            mutual TLS: says hello to PEER
//!   refused ADDRESS PEER         as dial, and the server must not answer
//! ```
//!
//! What went wrong is printed; the exit code says whether.

mod credentials;
mod failure;
mod tls;

use failure::Failure;
use std::process::ExitCode;
use std::time::Duration;

/// No step may take longer; a renewal adds the time that it was asked to watch.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut limit = PATIENCE;
    if let ["renew", _, seconds, _] = arguments.as_slice() {
        limit += Duration::from_secs(seconds.parse().unwrap_or(0));
    }
    let result = match tokio::time::timeout(limit, run(&arguments)).await {
        Ok(result) => result,
        Err(_) => Err(Failure::TooSlow(limit)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&format!("rust client: {failure}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &[&str]) -> Result<(), Failure> {
    match *arguments {
        ["fetch", id] => credentials::fetch(id).await,
        ["renew", id, seconds, renewals] => credentials::renew(id, seconds.parse()?, renewals.parse()?).await,
        ["jwt", id, audience] => credentials::jwt(id, audience).await,
        ["serve", id, peer] => tls::serve(id, peer).await,
        ["dial", address, peer] => tls::dial(address, peer).await,
        ["refused", address, peer] => tls::refused(address, peer).await,
        _ => Err(Failure::Usage),
    }
}

/// Prints one line: the driver reads them.
#[expect(clippy::print_stdout, reason = "a command-line program's output")]
fn say(line: &str) {
    println!("{line}");
}
