//! One consumer, asked again and again.

use super::judge::Judge;
use crate::clock::now;
use crate::consumers::nginx::Nginx;
use crate::consumers::openssl::OpenSsl;
use crate::consumers::postgresql::PostgreSql;
use crate::consumers::rustls::Rustls;
use crate::consumers::{Chain, Opinion, View, version};
use crate::invariants::inv_16;
use crate::say;
use crate::trouble::Trouble;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// The pause between two rounds of questions: what is asked costs handshakes and processes.
const PACE: Duration = Duration::from_millis(100);

/// Programs of others that the run wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Wanted {
    /// `openssl verify`.
    Openssl,
    /// nginx.
    Nginx,
    /// PostgreSQL.
    Postgresql,
}

/// A program that was found, or one that is built in.
pub(super) enum Found {
    Openssl(PathBuf),
    Nginx(PathBuf),
    Postgresql(PathBuf),
    Rustls,
    Own,
}

/// Finds all of them, and says which are there. One that is not there, and was not said to be missing, ends the run.
pub(super) async fn find(may_miss: &[Wanted]) -> Result<Vec<Found>, Trouble> {
    let mut found = vec![Found::Own, Found::Rustls];
    let mut there = vec!["our own verifier".to_owned(), "rustls".to_owned()];
    let mut missing = Vec::new();
    for wanted in [Wanted::Openssl, Wanted::Nginx, Wanted::Postgresql] {
        let (name, program, argument) = match wanted {
            Wanted::Openssl => ("openssl", OpenSsl::find(), "version"),
            Wanted::Nginx => ("nginx", Nginx::find(), "-v"),
            Wanted::Postgresql => ("postgresql", PostgreSql::find(), "--version"),
        };
        match program {
            Some(program) => {
                there.push(version(&program, argument).await?);
                found.push(match wanted {
                    Wanted::Openssl => Found::Openssl(program),
                    Wanted::Nginx => Found::Nginx(program),
                    Wanted::Postgresql => Found::Postgresql(program),
                });
            }
            None if may_miss.contains(&wanted) => missing.push(name),
            None => {
                let what = format!(
                    "{name} is not installed (Debian: openssl, nginx-light, postgresql); --may-miss {name} goes on without"
                );
                return Err(Trouble::ProvesNothing(what));
            }
        }
    }
    say(&format!("revocation: consumers: {}", there.join("; ")));
    if !missing.is_empty() {
        say(&format!("revocation: MISSING, and not tried: {}", missing.join(", ")));
    }
    Ok(found)
}

/// A consumer at work.
pub(super) struct Consultant {
    consumer: Consumer,
    /// The view that its files hold, of those that have files.
    loaded: Option<u64>,
    /// The post that its files are of; others are asked with the views of all posts in turn.
    home: Option<usize>,
}

enum Consumer {
    OpenSsl(OpenSsl),
    Nginx(Nginx),
    PostgreSql(PostgreSql),
    Rustls(Rustls),
    Own,
}

impl Consultant {
    /// Starts it; servers have the files of one post each.
    pub(super) async fn start(found: Found, judge: &Judge, directory: &Path) -> Result<Self, Trouble> {
        let view =
            |post: usize| judge.seen(post).view.ok_or_else(|| Trouble::NotReached(format!("a set at post {post}")));
        let (consumer, home) = match found {
            Found::Openssl(program) => (Consumer::OpenSsl(OpenSsl::new(program, directory.join("openssl"))?), None),
            Found::Nginx(program) => {
                (Consumer::Nginx(Nginx::start(program, directory.join("nginx"), &view(0)?).await?), Some(0))
            }
            Found::Postgresql(program) => {
                let server = PostgreSql::start(program, directory.join("postgresql"), &view(1)?).await?;
                (Consumer::PostgreSql(server), Some(1))
            }
            Found::Rustls => (Consumer::Rustls(Rustls::default()), None),
            Found::Own => (Consumer::Own, None),
        };
        let consultant = Self { consumer, loaded: None, home };
        judge.joined(consultant.name());
        Ok(consultant)
    }

    /// What it is called.
    pub(super) fn name(&self) -> &'static str {
        match self.consumer {
            Consumer::OpenSsl(_) => "openssl verify -crl_check_all",
            Consumer::Nginx(_) => "nginx",
            Consumer::PostgreSql(_) => "PostgreSQL",
            Consumer::Rustls(_) => "rustls",
            Consumer::Own => "our own verifier",
        }
    }

    /// Asks until the run ends.
    pub(super) async fn consult(mut self, judge: Arc<Judge>, ended: watch::Receiver<bool>) -> Result<(), Trouble> {
        let homes: Vec<usize> = self.home.map_or_else(|| (0..judge.posts()).collect(), |home| vec![home]);
        while !*ended.borrow() {
            for home in &homes {
                self.round(&judge, *home).await?;
            }
            sleep(PACE).await;
        }
        match self.consumer {
            Consumer::Nginx(nginx) => nginx.stop().await,
            Consumer::PostgreSql(server) => server.stop().await,
            Consumer::OpenSsl(_) | Consumer::Rustls(_) | Consumer::Own => Ok(()),
        }
    }

    /// All questions once, with the newest view of a post.
    async fn round(&mut self, judge: &Judge, home: usize) -> Result<(), Trouble> {
        // First what is revoked: the view that is read after it lists that.
        let revoked = judge.to_refuse();
        let seen = judge.seen(home);
        let Some(view) = &seen.view else { return Ok(()) };
        self.load(judge, view).await?;
        for revoked in revoked {
            let opinion = self.ask(view, &revoked.chain).await?;
            judge.on_revoked(self.name(), &revoked, &opinion);
        }
        for question in judge.to_accept(&seen) {
            let opinion = self.ask(view, &question.chain).await?;
            judge.on_current(self.name(), &question, view, &opinion);
        }
        Ok(())
    }

    async fn load(&mut self, judge: &Judge, view: &View) -> Result<(), Trouble> {
        if self.loaded == Some(view.number) {
            return Ok(());
        }
        let begin = Instant::now();
        match &mut self.consumer {
            Consumer::Nginx(nginx) => nginx.load(view).await?,
            Consumer::PostgreSql(server) => server.load(view).await?,
            // They have each question's view.
            Consumer::OpenSsl(_) | Consumer::Rustls(_) | Consumer::Own => return Ok(()),
        }
        self.loaded = Some(view.number);
        judge.loaded(self.name(), begin.elapsed());
        Ok(())
    }

    async fn ask(&mut self, view: &View, chain: &Chain) -> Result<Opinion, Trouble> {
        Ok(match &mut self.consumer {
            Consumer::OpenSsl(openssl) => openssl.ask(view, chain).await?,
            Consumer::Nginx(nginx) => nginx.ask(view, chain).await,
            Consumer::PostgreSql(server) => server.ask(view, chain).await,
            Consumer::Rustls(rustls) => rustls.ask(view, chain),
            Consumer::Own => inv_16::ask(view, chain, now()),
        })
    }
}
