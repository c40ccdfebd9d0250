//! What no accident leaves, made by hand: valid checksums over a story that does not hold together.

use super::*;
use crate::log::frame::{Place, seal};
use crate::log_id::{LogId, Vote};

const IDENTITY: WalIdentity = WalIdentity { cluster: [4; 16], member: 2 };

/// Writes frames as the writer does, each item list a frame.
struct Story {
    sequence: u64,
    chain: u32,
}

impl Story {
    fn segment(&mut self, number: u64, frames: &[Vec<Item<'_>>]) -> Vec<u8> {
        let mut content = Vec::new();
        for items in frames {
            let mut buffer = vec![0; FRAME_HEADER_BYTES];
            items.iter().for_each(|item| item.encode(&mut buffer));
            let offset = content.len() as u64;
            let place = Place { segment: number, offset, sequence: self.sequence, chain: self.chain };
            self.chain = seal(&mut buffer, place, offset);
            self.sequence += 1;
            content.extend(buffer);
        }
        content
    }
}

fn checkpoint(state: LogState) -> Vec<Item<'static>> {
    vec![Item::Checkpoint(Checkpoint::new(IDENTITY, state))]
}

fn log_id(index: u64) -> LogId {
    LogId { term: 1, node: 1, index }
}

fn entry(index: u64) -> Vec<Item<'static>> {
    vec![Item::Entry { log_id: log_id(index), kind: 0, body: b"body" }]
}

/// Replays segments 1, 2, ...; the state at the end or the problem.
fn replay(segments: &[&[Vec<Item<'_>>]]) -> Result<LogState, String> {
    let mut story = Story { sequence: 0, chain: 0 };
    let mut replay = Replay::new(IDENTITY);
    let mut index = LogIndex::new(Path::new("/log"), 0);
    for (number, frames) in (1..).zip(segments) {
        let content = story.segment(number, frames);
        let file = PathBuf::from(format!("s-{number}.wal"));
        let read = replay.segment(&file, number, &content, &mut index).map_err(|error| error.to_string())?;
        assert_eq!((read.bad, read.end), (None, content.len() as u64));
    }
    Ok(replay.state)
}

#[test]
fn wal_04_a_segment_goes_on_where_the_one_before_it_ended() {
    let vote = Vote { term: 1, node: 1, committed: true };
    let first = [checkpoint(LogState::default()), vec![Item::Vote(vote)], entry(0), entry(1)];
    let state = LogState { vote: Some(vote), last: Some(log_id(1)), ..LogState::default() };
    let found = replay(&[&first, &[checkpoint(state), entry(2)]]).unwrap();
    assert_eq!(found, LogState { last: Some(log_id(2)), ..state });
    let forgotten = [
        LogState { vote: None, ..state },
        LogState { last: Some(log_id(0)), ..state },
        LogState { committed: Some(log_id(0)), ..state },
        LogState { purged: Some(log_id(0)), ..state },
    ];
    for wrong in forgotten {
        let error = replay(&[&first, &[checkpoint(wrong)]]).unwrap_err();
        assert!(error.contains("s-2.wal is damaged at offset 0: the state it starts from"), "{error}");
    }
}

#[test]
fn wal_04_a_segment_starts_with_its_checkpoint_and_has_no_other() {
    let error = replay(&[&[entry(0)]]).unwrap_err();
    assert!(error.contains("does not start with a checkpoint"), "{error}");
    let twice = [checkpoint(LogState::default()), checkpoint(LogState::default())];
    let error = replay(&[&twice]).unwrap_err();
    assert!(error.contains("a checkpoint in the wrong place"), "{error}");
    let error = replay(&[&[vec![]]]).unwrap_err();
    assert!(error.contains("no records"), "{error}");
}

#[test]
fn wal_14_a_hole_in_the_entries_is_refused() {
    for second in [0, 2, 7] {
        let error = replay(&[&[checkpoint(LogState::default()), entry(0), entry(second)]]).unwrap_err();
        assert!(error.contains("the log has a hole"), "{error}");
    }
    let purge = vec![Item::Purge(log_id(9))];
    let after = [checkpoint(LogState::default()), entry(0), purge, entry(10)];
    assert_eq!(replay(&[&after]).unwrap().last, Some(log_id(10)));
    let cut = vec![Item::Truncate { from: log_id(5), last: Some(log_id(4)) }];
    let error = replay(&[&[checkpoint(LogState::default()), entry(0), cut]]).unwrap_err();
    assert!(error.contains("cut off beyond the end"), "{error}");
}
