//! The nodes of a demonstration together: brought up one after the other, as anybody would, and kept up.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::DemoError;
use super::keeper::{EVENTS, Event, Keeper};
use super::layout::NodeFiles;
use super::outlook::{self, Outlook};
use super::screen::Screen;
use super::tour;

/// How long a node of several stays down when it died: long enough to see that the others go on.
const PAUSE: Duration = Duration::from_secs(3);

/// How long the members may take to become voters. It is not needed to serve, so it is no error when it takes longer.
const VOTERS_LIMIT: Duration = Duration::from_secs(20);

/// How often it is asked.
const VOTERS_PACE: Duration = Duration::from_millis(100);

/// How often it is asked who leads after a node has died.
const LEADER_PACE: Duration = Duration::from_millis(20);

/// How long that is asked.
const LEADER_LIMIT: Duration = Duration::from_secs(30);

/// All nodes.
#[derive(Debug)]
pub(super) struct Assembly {
    files: Vec<NodeFiles>,
    keepers: Vec<Keeper>,
    events: mpsc::Receiver<Event>,
    tell: mpsc::Sender<Event>,
    screen: Screen,
}

impl Assembly {
    /// Nodes that are not started yet.
    pub(super) fn new(files: Vec<NodeFiles>, screen: Screen) -> Self {
        let (tell, events) = mpsc::channel(EVENTS);
        Self { files, keepers: Vec::new(), events, tell, screen }
    }

    pub(super) fn files(&self) -> &[NodeFiles] {
        &self.files
    }

    pub(super) fn keepers(&self) -> &[Keeper] {
        &self.keepers
    }

    /// Starts all nodes: founds an authority on the first and has the others join it, or goes on with what is there.
    pub(super) async fn bring_up(&mut self, directory: &Path) -> Result<(), DemoError> {
        let Some(first) = self.files.first().cloned() else { return Ok(()) };
        self.start(&first).await?;
        let members = self.meanwhile(tour::members(&first)).await??;
        if members.len() > self.files.len() {
            return Err(DemoError::OtherSize { path: directory.to_owned(), members: members.len() });
        }
        let there: BTreeSet<&str> = members.iter().map(String::as_str).collect();
        let story = if there.is_empty() {
            self.meanwhile(tour::found(&first)).await??
        } else {
            // They elect a leader among themselves, for which a majority has to be there.
            for files in self.files.clone().iter().skip(1).filter(|files| there.contains(files.name.as_str())) {
                self.start(files).await?;
            }
            "the one of an earlier demonstration\n".to_owned()
        };
        self.screen.say(&tour::fact("authority", story.trim_end()));
        self.meanwhile(tour::wait_until_serving(&first)).await??;
        for files in self.files.clone().iter().skip(1) {
            if !there.contains(files.name.as_str()) {
                let invitation = self.meanwhile(tour::invite(&first, files)).await??;
                files.invite(&invitation)?;
                self.start(files).await?;
            }
            self.meanwhile(tour::wait_until_serving(files)).await??;
            files.forget_invitation();
            self.screen.say(&tour::fact("member", &format!("{} in {}", files.title(), files.region)));
        }
        self.wait_for_voters(&first).await
    }

    /// Waits for as many voters as the plan wants of so many nodes.
    async fn wait_for_voters(&mut self, first: &NodeFiles) -> Result<(), DemoError> {
        let deadline = Instant::now() + VOTERS_LIMIT;
        let wanted = self.files.len();
        while Instant::now() < deadline {
            let enough = self.meanwhile(outlook::has_voters(first, wanted)).await?;
            if enough {
                break;
            }
            tokio::time::sleep(VOTERS_PACE).await;
        }
        Ok(())
    }

    async fn start(&mut self, files: &NodeFiles) -> Result<(), DemoError> {
        let pause = if self.files.len() > 1 { PAUSE } else { Duration::ZERO };
        let keeper = Keeper::start(files.clone(), pause, self.tell.clone());
        let process = keeper.process.clone();
        self.keepers.push(keeper);
        self.meanwhile(async move {
            let mut process = process;
            // The keeper that goes has told why.
            if process.wait_for(Option::is_some).await.is_err() {
                std::future::pending::<()>().await;
            }
        })
        .await
    }

    /// Waits for something while the nodes are kept up.
    ///
    /// # Errors
    ///
    /// When one of them does not start.
    pub(super) async fn meanwhile<T>(&mut self, what: impl Future<Output = T>) -> Result<T, DemoError> {
        tokio::pin!(what);
        loop {
            tokio::select! {
                biased;
                Some(event) = self.events.recv() => tell(event, &self.files, &self.screen)?,
                done = &mut what => return Ok(done),
            }
        }
    }

    /// Keeps the nodes up. Ends when one of them does not start.
    pub(super) async fn keep(&mut self) -> DemoError {
        match self.meanwhile(std::future::pending::<std::convert::Infallible>()).await {
            Err(error) => error,
            Ok(never) => match never {},
        }
    }

    /// Tells all nodes to stop.
    pub(super) fn begin_stop(&self) {
        for keeper in &self.keepers {
            keeper.begin_stop();
        }
    }

    /// Stops all nodes, in order, and says how they ended.
    pub(super) async fn stop(&mut self) {
        self.screen.end();
        self.begin_stop();
        for keeper in self.keepers.drain(..) {
            let ended = keeper.stopped().await;
            self.screen.say(&format!("stopped: {ended}\n"));
        }
    }
}

/// Says what became of a node.
fn tell(event: Event, files: &[NodeFiles], screen: &Screen) -> Result<(), DemoError> {
    match event {
        Event::GaveUp(error) => return Err(error),
        Event::Ended { name, how } => {
            screen.say(&format!("{name} {how}; starting it again\n"));
            if files.len() > 1 {
                let (died, others): (Vec<NodeFiles>, Vec<NodeFiles>) =
                    files.iter().cloned().partition(|files| files.title() == name);
                let died = died.into_iter().map(|files| files.name).collect();
                tokio::spawn(tell_who_leads(others, died, screen.clone()));
            }
        }
        Event::Back { name, process, applied_index, after } => screen.say(&format!(
            "{name} serves again, process {process}; it has caught up to log index {applied_index}, {} ms after its \
             start\n",
            after.as_millis()
        )),
    }
    Ok(())
}

/// Says who leads when a node has died, once those who remain agree on somebody among themselves.
async fn tell_who_leads(others: Vec<NodeFiles>, died: String, screen: Screen) {
    let since = Instant::now();
    while since.elapsed() < LEADER_LIMIT {
        if let Outlook { leader: Some(leader), term, .. } = Outlook::of(&others).await
            && leader != died
        {
            let after = since.elapsed().as_millis();
            screen.say(&format!("  the others go on: {leader} leads, term {term}, {after} ms later\n"));
            return;
        }
        tokio::time::sleep(LEADER_PACE).await;
    }
}
