//! The audit trail of this node: `quorate.cluster.v1.Audit`.
//!
//! ```text
//!   GetTrail ────► where it is, what is synced, anchors of all members ──► `quorate audit verify` compares
//!   ReadRecords ─► reader over the files, up to what is synced ──► filter ──► stream; follows the head if asked to
//! ```

use std::collections::VecDeque;

use quorate_actors::audit::{Auditor, Filter, Reader, Shown, TrailStatus};
use quorate_proto_api::cluster::audit_server::{Audit as AuditApi, AuditServer};
use quorate_proto_api::cluster::{
    AuditAnchor, AuditHead, AuditRecord, GetTrailRequest, GetTrailResponse, ReadRecordsRequest,
};
use quorate_proto_identity::UnixMillis;
use quorate_raft_consensus::{Sources, WorkLost};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::node::Node;
use crate::shutdown::Stopping;

/// Records that wait for a reader. A reader that is slow holds its own stream up, and nothing else.
const RECORDS_AHEAD: usize = 64;

/// Most records that a follower is shown of what was before.
const NEWEST_LIMIT: usize = 10_000;

/// Longest text of a filter: as long as the longest SPIFFE ID.
const FILTER_BYTES_LIMIT: usize = 2_048;

/// The service.
#[derive(Clone)]
pub(super) struct AuditService {
    node: Node,
}

/// Puts the service together.
pub(super) fn service(node: &Node) -> AuditServer<AuditService> {
    AuditServer::new(AuditService { node: node.clone() })
}

fn not_kept() -> Status {
    Status::unavailable("this node keeps no audit trail yet: it is no member of a cluster, or it is stopping")
}

#[tonic::async_trait]
impl AuditApi for AuditService {
    async fn get_trail(&self, _: Request<GetTrailRequest>) -> Result<Response<GetTrailResponse>, Status> {
        let auditor = self.node.audit();
        // Whoever compares the files with what is told here is to find all of it there.
        auditor.flush().await;
        let (settings, status) = auditor.settings().zip(auditor.status()).ok_or_else(not_kept)?;
        let TrailStatus { head, bytes, blocked } = status.borrow().clone();
        let anchors = self.node.consensus().state().read(|state| {
            let members = state.members().map(|member| member.number);
            members.flat_map(|number| state.audit_anchors(number)).copied().collect::<Vec<_>>()
        });
        let anchors = anchors.iter().map(|anchor| AuditAnchor {
            member: anchor.member.get(),
            records: anchor.records,
            index: anchor.index,
            hash: anchor.hash.to_vec().into(),
        });
        Ok(Response::new(GetTrailResponse {
            directory: settings.directory.display().to_string(),
            member: self.node.number().map_or(0, |number| number.get()),
            head: Some(AuditHead { records: head.records, hash: head.hash.0.to_vec().into() }),
            anchors: anchors.collect(),
            blocked: blocked.map(|reason| reason.to_string()).unwrap_or_default(),
            bytes,
            keep_bytes: settings.limits.keep_bytes,
        }))
    }

    type ReadRecordsStream = ReceiverStream<Result<AuditRecord, Status>>;

    async fn read_records(
        &self,
        request: Request<ReadRecordsRequest>,
    ) -> Result<Response<Self::ReadRecordsStream>, Status> {
        let ReadRecordsRequest { from, since, who, what, spiffe_id, follow, newest } = request.into_inner();
        for (name, text) in [("who", &who), ("what", &what), ("spiffe_id", &spiffe_id)] {
            if text.len() > FILTER_BYTES_LIMIT {
                let length = text.len();
                let message = format!("{name}: has {length} bytes, the most is {FILTER_BYTES_LIMIT}");
                return Err(Status::invalid_argument(message));
            }
        }
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        let since = Some(UnixMillis(since)).filter(|since| since.0 != 0);
        let filter = Filter { since, who: given(who), what: given(what), spiffe_id: given(spiffe_id) };
        let auditor = self.node.audit();
        // What was answered before this call is to be in the answer to it.
        auditor.flush().await;
        let reading = Reading::new(auditor, &self.node, from, filter).ok_or_else(not_kept)?;
        let newest = usize::try_from(newest).unwrap_or(NEWEST_LIMIT).min(NEWEST_LIMIT);
        let (records, stream) = mpsc::channel(RECORDS_AHEAD);
        tokio::spawn(reading.send(records, follow, newest));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// A reading that goes on by itself until its listener, the trail or the node has gone.
struct Reading {
    reader: Option<Reader>,
    heads: watch::Receiver<TrailStatus>,
    filter: Filter,
    sources: Sources,
    stopping: Stopping,
}

type Records = mpsc::Sender<Result<AuditRecord, Status>>;

/// Nobody listens any more.
struct Gone;

impl Reading {
    fn new(auditor: &Auditor, node: &Node, from: u64, filter: Filter) -> Option<Self> {
        let (reader, heads) = (auditor.reader(from)?, auditor.status()?);
        Some(Self { reader: Some(reader), heads, filter, sources: node.sources().clone(), stopping: node.stopping() })
    }

    async fn send(mut self, records: Records, follow: bool, newest: usize) {
        // A listener that has gone, or a failure that was told: either way it is over.
        let _ = self.send_all(&records, follow, newest).await;
    }

    async fn send_all(&mut self, records: &Records, follow: bool, newest: usize) -> Result<(), Gone> {
        if follow {
            let mut last = VecDeque::with_capacity(newest);
            let until = self.heads.borrow_and_update().head.records;
            while let Some(read) = self.read(until, records).await? {
                for shown in read {
                    if last.len() >= newest {
                        last.pop_front();
                    }
                    if newest > 0 {
                        last.push_back(shown);
                    }
                }
            }
            send_each(records, last).await?;
        }
        loop {
            let until = self.heads.borrow_and_update().head.records;
            while let Some(read) = self.read(until, records).await? {
                send_each(records, read).await?;
            }
            if !follow {
                return Ok(());
            }
            tokio::select! {
                biased;
                () = records.closed() => return Err(Gone),
                () = self.stopping.asked() => {
                    let _ = records.send(Err(Status::unavailable("the node is stopping"))).await;
                    return Err(Gone);
                }
                changed = self.heads.changed() => changed.map_err(|_ended| Gone)?,
            }
        }
    }

    /// The next records that are wanted, of those up to `until`; none when there are no more of them. May be empty before.
    async fn read(&mut self, until: u64, records: &Records) -> Result<Option<Vec<Shown>>, Gone> {
        let Some(mut reader) = self.reader.take() else { return Ok(None) };
        let filter = self.filter.clone();
        let work = move || {
            let read = reader.read(until).map(|read| {
                let more = !read.is_empty();
                (more, read.into_iter().filter(|shown| filter.wants(&shown.record)).collect::<Vec<_>>())
            });
            (reader, read)
        };
        let failure = match self.sources.run_blocking(work).await {
            Ok((reader, Ok((more, read)))) => {
                self.reader = Some(reader);
                return Ok(more.then_some(read));
            }
            Ok((_, Err(error))) => Status::unavailable(format!("the audit trail cannot be read: {error}")),
            Err(WorkLost) => Status::unavailable("the node is stopping"),
        };
        let _ = records.send(Err(failure)).await;
        Err(Gone)
    }
}

async fn send_each(records: &Records, read: impl IntoIterator<Item = Shown>) -> Result<(), Gone> {
    for Shown { line, record } in read {
        records.send(Ok(AuditRecord { number: record.record, line })).await.map_err(|_closed| Gone)?;
    }
    Ok(())
}
