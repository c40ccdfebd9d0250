//! Streams that stay open on every node: what they push is what a member is known to have, and none may end while its
//! node is healthy.

use super::workload::Workload;
use crate::fleet::Member;
use crate::load::issuance::saw_svids;
use crate::registrar::TRUST_DOMAIN;
use crate::run::{Run, lock};
use std::sync::Arc;
use std::time::Duration;
use tonic::{Status, Streaming};

/// How long is waited before a stream that ended is opened again.
const PACE: Duration = Duration::from_millis(20);

/// The kinds of streams.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// X509-SVIDs.
    X509Svids,
    /// X.509 bundles.
    X509Bundles,
    /// JWT bundles.
    JwtBundles,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::X509Svids, Self::X509Bundles, Self::JwtBundles];
}

/// Follows a stream of one node until the load ends, opening it again whenever a fault ended it.
pub(crate) async fn follow(run: Arc<Run>, node: usize, kind: Kind) {
    let Ok(member) = run.fleet.member(node) else { return };
    while run.goes_on() {
        if run.unless_stopped(member.condition.until_healthy()).await.is_none() {
            break;
        }
        let Some(spell) = member.condition.spell() else { continue };
        let Some(ended) = run.unless_stopped(once(&run, member, kind)).await else { break };
        if member.condition.unbroken(spell) {
            run.call_failed(member.name(), &format!("a stream of {kind:?}"), &ended);
        }
        run.pause(PACE).await;
    }
}

/// Opens a stream and reads it to its end.
async fn once(run: &Arc<Run>, member: &Member, kind: Kind) -> Status {
    let mut workload = Workload::new(&member.place.workload_socket());
    let life = (member.name().to_owned(), member.lives());
    let read = match kind {
        Kind::X509Svids => match workload.x509_svids().await {
            Ok(stream) => read(stream, |answer| saw_svids(run, &life, &answer, None)).await,
            Err(status) => Err(status),
        },
        Kind::X509Bundles => match workload.x509_bundles().await {
            Ok(stream) => {
                read(stream, |answer| {
                    for (_, roots) in answer.bundles.iter().filter(|(domain, _)| domain.contains(TRUST_DOMAIN)) {
                        lock(&run.seen).bundles.saw_x509(member.name(), roots);
                    }
                })
                .await
            }
            Err(status) => Err(status),
        },
        Kind::JwtBundles => match workload.jwt_bundles().await {
            Ok(stream) => {
                read(stream, |answer| {
                    for (_, keys) in answer.bundles.iter().filter(|(domain, _)| domain.contains(TRUST_DOMAIN)) {
                        lock(&run.seen).bundles.saw_jwt(member.name(), keys);
                    }
                })
                .await
            }
            Err(status) => Err(status),
        },
    };
    read.err().unwrap_or_else(|| Status::data_loss("it ended without a status"))
}

async fn read<T>(mut stream: Streaming<T>, mut saw: impl FnMut(T)) -> Result<(), Status> {
    while let Some(message) = stream.message().await? {
        saw(message);
    }
    Ok(())
}
