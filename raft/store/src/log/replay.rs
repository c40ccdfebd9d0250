//! Reading segments back, frame by frame, into the index. Nothing here writes.

use super::checkpoint::{Checkpoint, LogState};
use super::error::OpenError;
use super::frame::{BadFrame, FRAME_HEADER_BYTES, read_frame, scan_headers};
use super::index::{LogIndex, Stored};
use super::record::{Item, Items};
use crate::header::StoredForm;
use crate::log_id::WalIdentity;
use bytes::Bytes;
use std::path::{Path, PathBuf};

/// What is carried from frame to frame and from segment to segment.
#[derive(Debug)]
pub(crate) struct Replay {
    identity: WalIdentity,
    /// Sequence and chain that the next frame must have; `None` before the first segment kept.
    next: Option<(u64, u32)>,
    /// Whether the first segment's checkpoint was taken for the beginning.
    is_begun: bool,
    pub(crate) state: LogState,
}

/// One segment after it was read.
#[derive(Debug)]
pub(crate) struct ReplayedSegment {
    /// Where its valid frames end.
    pub(crate) end: u64,
    /// Largest index of any entry in it, truncated ones too.
    pub(crate) max_index: Option<u64>,
    /// Why they end there, unless the file does.
    pub(crate) bad: Option<String>,
    /// The largest offset that any header in it says is synced (WAL-10).
    pub(crate) evidence: u64,
}

/// A frame that belongs where it stands.
struct Frame<'a> {
    payload_at: u64,
    payload: &'a [u8],
    synced_upto: u64,
}

/// Why a frame that holds is still not the one that belongs here.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error(transparent)]
    Frame(#[from] BadFrame),
    #[error("frame {found} stands where frame {expected} belongs")]
    Sequence { expected: u64, found: u64 },
    #[error("the frame does not follow the one before it")]
    Chain,
}

impl Replay {
    pub(crate) fn new(identity: WalIdentity) -> Self {
        Self { identity, next: None, is_begun: false, state: LogState::default() }
    }

    /// Reads one segment.
    ///
    /// # Errors
    /// What no torn write explains: another owner, another version, records that contradict each other
    /// under valid checksums (WAL-04, WAL-14).
    pub(crate) fn segment(
        &mut self,
        file: &Path,
        number: u64,
        content: &[u8],
        index: &mut LogIndex,
    ) -> Result<ReplayedSegment, OpenError> {
        let mut segment = ReplayedSegment { end: 0, max_index: None, bad: None, evidence: 0 };
        while segment.end < content.len() as u64 {
            match self.frame(content, number, segment.end) {
                Ok(frame) => {
                    self.payload(file, number, &frame, index, &mut segment)?;
                    segment.evidence = segment.evidence.max(frame.synced_upto);
                    segment.end = frame.payload_at + frame.payload.len() as u64;
                }
                Err(Unfit::Frame(BadFrame::Version(source))) if segment.end == 0 => {
                    return Err(OpenError::Version { file: file.to_path_buf(), source });
                }
                Err(unfit) => {
                    segment.bad = Some(unfit.to_string());
                    break;
                }
            }
        }
        if segment.bad.is_some() {
            let beyond = scan_headers(content, number, segment.end);
            let evidence = beyond.map(|header| header.synced_upto).max().unwrap_or(0);
            segment.evidence = segment.evidence.max(evidence);
        }
        Ok(segment)
    }

    /// Sequence and chain for the frame that comes next.
    pub(crate) fn next_frame(&self) -> (u64, u32) {
        self.next.unwrap_or_default()
    }

    /// The next frame, if it is the one that belongs here.
    fn frame<'a>(&mut self, content: &'a [u8], number: u64, offset: u64) -> Result<Frame<'a>, Unfit> {
        let (header, payload) = read_frame(content, number, offset)?;
        if let Some((sequence, chain)) = self.next {
            if header.sequence != sequence {
                return Err(Unfit::Sequence { expected: sequence, found: header.sequence });
            }
            if header.chain != chain {
                return Err(Unfit::Chain);
            }
        }
        self.next = Some((header.sequence + 1, header.header_crc));
        Ok(Frame { payload_at: offset + FRAME_HEADER_BYTES as u64, payload, synced_upto: header.synced_upto })
    }

    fn payload(
        &mut self,
        file: &Path,
        number: u64,
        frame: &Frame<'_>,
        index: &mut LogIndex,
        segment: &mut ReplayedSegment,
    ) -> Result<(), OpenError> {
        let damaged = |problem: &str| damaged(file, segment.end, problem);
        let is_first = segment.end == 0;
        if frame.payload.is_empty() {
            return Err(damaged("the frame holds no records"));
        }
        for (position, item) in Items::new(frame.payload).enumerate() {
            let (place, item) = item.map_err(|_| damaged("the frame holds no records"))?;
            match &item {
                Item::Checkpoint(checkpoint) if is_first && position == 0 => {
                    self.checkpoint(file, checkpoint, index)?;
                    continue;
                }
                Item::Checkpoint(_) => return Err(damaged("a checkpoint in the wrong place")),
                Item::Entry { .. } | Item::Vote(_) | Item::Committed(_) | Item::Truncate { .. } | Item::Purge(_)
                    if is_first =>
                {
                    return Err(damaged("the segment does not start with a checkpoint"));
                }
                Item::Entry { log_id, kind, body } => {
                    if log_id.index != self.state.next_index() {
                        return Err(damaged("the log has a hole"));
                    }
                    let stored = Stored { segment: number, offset: frame.payload_at + place as u64 };
                    index.push(*log_id, *kind, Bytes::copy_from_slice(body), Some(stored));
                    segment.max_index = segment.max_index.max(Some(log_id.index));
                }
                Item::Truncate { from, last } => {
                    if self.state.next_index() <= from.index {
                        return Err(damaged("entries are cut off beyond the end"));
                    }
                    index.truncate(from.index, *last);
                }
                Item::Purge(upto) => index.purge(*upto),
                Item::Vote(_) | Item::Committed(_) => {}
            }
            self.state.apply(&item);
        }
        Ok(())
    }

    fn checkpoint(&mut self, file: &Path, checkpoint: &Checkpoint, index: &mut LogIndex) -> Result<(), OpenError> {
        StoredForm::Log
            .check(checkpoint.version)
            .map_err(|source| OpenError::Version { file: file.to_path_buf(), source })?;
        if checkpoint.identity != self.identity {
            return Err(OpenError::Foreign {
                file: file.to_path_buf(),
                found: checkpoint.identity,
                expected: self.identity,
            });
        }
        // The first segment kept is where the story begins; every later one must continue it.
        if !self.is_begun {
            self.is_begun = true;
            self.state = checkpoint.state;
            index.start_at(checkpoint.state);
        } else if self.state != checkpoint.state {
            return Err(damaged(file, 0, "the state it starts from is not the one replayed"));
        }
        Ok(())
    }
}

pub(crate) fn damaged(file: &Path, offset: u64, problem: &str) -> OpenError {
    OpenError::Damaged { file: PathBuf::from(file), offset, problem: problem.to_owned() }
}

#[cfg(test)]
mod tests;
