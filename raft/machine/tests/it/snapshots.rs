//! Snapshots: what is read back is what was, and nothing else is taken.

use quorate_raft_machine::{
    EntryChange, EntryFilter, Event, Operation, SNAPSHOT_CHUNK_BYTES, SnapshotError, SnapshotReader, State, invariants,
};

use crate::world::{World, create, draft, draft_under, entry_id, member};

fn bytes(state: &State) -> Vec<u8> {
    state.view().chunks().flatten().collect()
}

fn read(bytes: &[u8]) -> Result<State, SnapshotError> {
    let mut reader = SnapshotReader::new();
    reader.push(bytes)?;
    reader.finish()
}

/// A state with something of every kind in it.
pub(crate) fn rich() -> World {
    let mut world = World::founded();
    let root = world.active_root();
    let issuing = world.issuing(&root, 1, 20);
    let next = world.root(120);
    let mut full = draft("full", "/full", &["unix:uid:1", "unix:gid:2"]);
    full.dns_names = vec!["a.example.org".to_owned()];
    full.hint = "hint".to_owned();
    full.expires_at = Some(world.seconds().plus(50));
    world.all(vec![
        Operation::RecordIssuingCertificate(Box::new(issuing)),
        Operation::PrepareX509Authority(Box::new(next.new)),
        Operation::SetMember { number: None, member: Box::new(member("node-2")) },
        create(full),
        create(draft_under("/full", "child", "/child", &["unix:uid:1"])),
        create(draft_under("/spire/server", "alias", "/alias", &["quorate:zone:a"])),
        Operation::UpdateEntry { id: entry_id("child"), change: Box::new(EntryChange::default()) },
        Operation::DeleteEntry { id: entry_id("nobody"), revoke: None },
    ]);
    world
}

/// ATK-14: nothing is dropped and nothing rises again.
#[test]
fn an_empty_and_a_rich_state_come_back_as_they_were() {
    for world in [World::empty(), World::founded(), rich()] {
        let restored = read(&bytes(&world.state)).unwrap();
        assert_eq!(restored.state_hash(), world.state.state_hash());
        assert_eq!(bytes(&restored), bytes(&world.state));
        assert_eq!(invariants::violations(&restored), []);
        let content = world.content();
        assert_eq!(World { state: restored, ..world }.content(), content);
    }
}

#[test]
fn a_reader_takes_the_stream_in_pieces_of_any_length() {
    let world = rich();
    let all = bytes(&world.state);
    for piece in [1, 7, 1_000, all.len()] {
        let mut reader = SnapshotReader::new();
        for part in all.chunks(piece) {
            reader.push(part).unwrap();
        }
        assert_eq!(reader.finish().unwrap().state_hash(), world.state.state_hash());
    }
}

/// ATK-14, ATK-28.
#[test]
fn what_is_cut_off_anywhere_is_refused() {
    let all = bytes(&rich().state);
    for length in 0..all.len() {
        assert_eq!(read(&all[..length]).unwrap_err(), SnapshotError::Truncated, "{length} of {} bytes", all.len());
    }
}

/// ATK-14, ATK-28.
#[test]
fn every_flipped_bit_is_refused() {
    let all = bytes(&rich().state);
    for at in 0..all.len() {
        let mut flipped = all.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(read(&flipped).is_err(), "byte {at} of {}", all.len());
    }
}

/// ATK-28.
#[test]
fn what_follows_the_end_is_refused_and_so_is_what_is_no_snapshot() {
    let mut all = bytes(&rich().state);
    all.push(0);
    assert_eq!(read(&all).unwrap_err(), SnapshotError::TrailingBytes);
    assert_eq!(read(b"not a snapshot at all").unwrap_err(), SnapshotError::NotASnapshot);
    assert_eq!(SnapshotReader::new().finish().unwrap_err(), SnapshotError::Truncated);
    let mut huge = all[..8].to_vec();
    huge.extend([0xf0, 0xff, 0xff, 0xff, 0x7f]);
    assert!(matches!(read(&huge), Err(SnapshotError::ObjectTooLong { .. })));
}

#[test]
fn a_view_stays_what_it_was_while_the_state_moves_on() {
    let mut world = rich();
    let view = world.state.view();
    let before: Vec<u8> = view.chunks().flatten().collect();
    let hash = world.state.state_hash();
    for n in 0..600 {
        world.one(create(draft(&format!("n{n}"), &format!("/n{n}"), &[&format!("unix:uid:{n}")]))).unwrap();
    }
    world.one(Operation::DeleteEntry { id: entry_id("full"), revoke: None }).unwrap();
    world.one(Operation::UpdateEntry { id: entry_id("child"), change: Box::default() }).unwrap();
    world.now += 200;
    world.one(Operation::PruneAuthorities).unwrap();
    assert_eq!(view.chunks().flatten().collect::<Vec<u8>>(), before);
    assert_eq!((view.state_hash(), view.entry_count()), (hash, 3));
    assert_eq!(read(&before).unwrap().state_hash(), hash);
}

#[test]
fn a_large_state_comes_in_chunks_of_bounded_size() {
    let mut world = World::founded();
    let mut events: Vec<Event> = Vec::new();
    for n in 0..3_000_u64 {
        let mut drafted = draft(&format!("n{n}"), &format!("/n{n}"), &[&format!("unix:uid:{n}")]);
        drafted.hint = "h".repeat(1_000);
        let command = world.command(vec![create(drafted)]);
        world.state.apply(n + 10, &command, &mut events);
    }
    let view = world.state.view();
    let chunks: Vec<Vec<u8>> = view.chunks().collect();
    assert!(chunks.len() >= 3, "{}", chunks.len());
    let (last, full) = chunks.split_last().unwrap();
    assert!(full.iter().all(|chunk| chunk.len() == SNAPSHOT_CHUNK_BYTES));
    assert!((1..=SNAPSHOT_CHUNK_BYTES).contains(&last.len()));
    let mut reader = SnapshotReader::new();
    for chunk in &chunks {
        reader.push(chunk).unwrap();
    }
    let restored = reader.finish().unwrap();
    assert_eq!(restored.state_hash(), world.state.state_hash());
    assert_eq!(restored.list(&EntryFilter::default(), 2_990, 100).len(), 10);
}
