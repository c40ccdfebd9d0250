//! ATK-47: whatever is done to the files is told for what it is.

use std::{
    fs,
    path::{Path, PathBuf},
};

use proptest::prelude::*;
use quorate_raft_store::disk::RealDisk;

use super::{
    super::{
        chain::file_name,
        record::{FILE_BEGIN, FILES_REMOVED, FORMAT, RecordHash},
        verify::{Flaw, Note, Verdict},
        walk::Why,
    },
    *,
};

fn real() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

struct Trail {
    _kept: tempfile::TempDir,
    directory: PathBuf,
    heads: Vec<Head>,
}

fn made(last: u64, limits: Limits) -> Trail {
    let kept = tempfile::tempdir().unwrap();
    let directory = kept.path().join("audit");
    let (_, heads) = trail(&real(), &directory, limits, last);
    Trail { _kept: kept, directory, heads }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// All lines of all files, and the files they stand in.
fn lines(directory: &Path) -> Vec<(PathBuf, Vec<String>)> {
    let read = |path: &PathBuf| fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect();
    files(directory).iter().map(|path| (path.clone(), read(path))).collect()
}

fn put(path: &Path, lines: &[String]) {
    fs::write(path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
}

#[test]
fn a_trail_of_several_files_is_intact_and_meets_its_anchors() {
    let trail = made(30, LIMITS);
    let anchors = [trail.heads[3], trail.heads[17], *trail.heads.last().unwrap()];
    let told = judged(&real(), &trail.directory, &anchors);
    assert_eq!((told.verdict, told.findings), (Verdict::Intact, vec![]));
    assert_eq!((told.met.len(), told.first, told.member), (3, 1, Some(1)));
    assert_eq!(told.head, *trail.heads.last().unwrap());
    assert!(told.files > 3, "{}", told.files);
    assert_eq!(acts_in(&real(), &trail.directory).len(), 30);
}

#[test]
fn a_line_taken_out_is_told_with_the_records_that_are_missing() {
    let trail = made(3, Limits { file_bytes: 1 << 20, ..LIMITS });
    let (path, mut lines) = lines(&trail.directory).remove(0);
    lines.remove(2);
    put(&path, &lines);
    let told = judged(&real(), &trail.directory, &[]);
    assert_eq!(told.verdict, Verdict::Altered);
    assert_eq!(told.findings[0].line, Some(3));
    assert_eq!(told.findings[0].flaw, Flaw::Line(Why::Missing { expected: 3, found: 4 }));
}

#[test]
fn lines_that_changed_places_are_told_as_that() {
    let trail = made(4, Limits { file_bytes: 1 << 20, ..LIMITS });
    let (path, mut lines) = lines(&trail.directory).remove(0);
    lines.swap(2, 3);
    put(&path, &lines);
    let told = judged(&real(), &trail.directory, &[]);
    assert_eq!(told.verdict, Verdict::Altered);
    assert_eq!((told.findings[0].line, told.findings[0].record), (Some(3), 4));
}

#[test]
fn a_tail_cut_off_at_a_line_shows_by_the_anchor_it_was_in_and_by_nothing_else() {
    let trail = made(6, Limits { file_bytes: 1 << 20, ..LIMITS });
    let (path, mut lines) = lines(&trail.directory).remove(0);
    lines.truncate(5);
    put(&path, &lines);
    assert_eq!(judged(&real(), &trail.directory, &[trail.heads[3]]).verdict, Verdict::Intact);
    let told = judged(&real(), &trail.directory, &[trail.heads[3], trail.heads[6]]);
    assert_eq!(told.verdict, Verdict::CutOff);
    let met = Some("the anchor at record 4".to_owned());
    assert_eq!(told.findings[0].flaw, Flaw::Short { name: "the anchor at record 7".into(), records: 7, met });
}

#[test]
fn a_trail_made_anew_with_right_hashes_shows_by_its_anchor() {
    let trail = made(6, LIMITS);
    let forged = tempfile::tempdir().unwrap();
    let directory = forged.path().join("audit");
    let mut chain = open(&real(), &directory, LIMITS).unwrap();
    for index in 1..=6 {
        let mut record = act(index);
        record.who = Some("node:1".into());
        append(&mut chain, [record]).unwrap();
    }
    assert_eq!(judged(&real(), &directory, &[]).verdict, Verdict::Intact);
    let told = judged(&real(), &directory, &[trail.heads[4]]);
    assert_eq!(told.verdict, Verdict::Altered);
    assert!(matches!(told.findings[0].flaw, Flaw::Anchor { .. }), "{told:?}");
}

#[test]
fn a_trail_made_anew_behind_all_that_is_known_shows_by_being_tied_to_nothing() {
    let trail = made(6, LIMITS);
    let forged = tempfile::tempdir().unwrap();
    let directory = forged.path().join("audit");
    fs::create_dir(&directory).unwrap();
    // As if a million records before had been removed in good order, all hashes made right.
    let before = Head { records: 1_000_000, hash: RecordHash([7; 32]) };
    let mut begin = Record::new(NOW, Kind::Trail, FILE_BEGIN).with("format", FORMAT).with("previous", before.hash);
    begin.record = before.records + 1;
    let (mut content, hash) = begin.encode(before.hash).unwrap();
    let mut removed =
        Record::new(NOW, Kind::Trail, FILES_REMOVED).with("last_record", before.records).with("last_hash", before.hash);
    removed.record = before.records + 2;
    content.extend(removed.encode(hash).unwrap().0);
    fs::write(directory.join(file_name(begin.record)), content).unwrap();
    assert_eq!(judged(&real(), &directory, &[]).verdict, Verdict::Intact, "files alone cannot tell");
    let told = judged(&real(), &directory, &[trail.heads[4], trail.heads[6]]);
    assert_eq!(told.verdict, Verdict::Altered);
    assert!(matches!(told.findings[0].flaw, Flaw::Untied { .. }), "{told:?}");
    // What it goes on from is compared, too.
    let told = judged(&real(), &directory, &[Head { hash: RecordHash([8; 32]), ..before }]);
    assert!(matches!(told.findings[0].flaw, Flaw::Anchor { .. }), "{told:?}");
    assert_eq!(judged(&real(), &directory, &[before]).verdict, Verdict::Intact);
}

#[test]
fn a_file_taken_out_of_the_middle_is_told() {
    let trail = made(30, LIMITS);
    fs::remove_file(&files(&trail.directory)[1]).unwrap();
    let told = judged(&real(), &trail.directory, &[]);
    assert_eq!(told.verdict, Verdict::Altered);
    assert!(matches!(told.findings[0].flaw, Flaw::NotOn { .. }), "{told:?}");
}

#[test]
fn the_oldest_files_go_when_there_is_too_much_and_only_then() {
    let limits = Limits { file_bytes: 1_000, keep_bytes: 3_500 };
    let trail = made(60, limits);
    assert!(files(&trail.directory).len() <= 4);
    let first = judged(&real(), &trail.directory, &[trail.heads[2], *trail.heads.last().unwrap()]);
    assert_eq!((first.verdict, &first.findings), (Verdict::Intact, &vec![]));
    assert_eq!((first.before.len(), first.met.len()), (1, 1));
    assert!(matches!(first.notes.last(), Some(Note::Removed { to }) if *to + 1 == first.first), "{first:?}");
    // One more, and it was somebody else.
    fs::remove_file(&files(&trail.directory)[0]).unwrap();
    let told = judged(&real(), &trail.directory, &[]);
    assert_eq!((told.verdict, &told.findings[0].flaw), (Verdict::Altered, &Flaw::NoStart));
}

#[test]
fn a_trail_that_is_gone_is_cut_off() {
    let trail = made(3, LIMITS);
    for file in files(&trail.directory) {
        fs::remove_file(file).unwrap();
    }
    let told = judged(&real(), &trail.directory, &[trail.heads[2]]);
    assert_eq!((told.verdict, told.files, told.first), (Verdict::CutOff, 0, 0));
}

#[test]
fn whole_lines_that_do_not_follow_stay_altered_after_the_node_has_gone_on() {
    let trail = made(4, Limits { file_bytes: 1 << 20, ..LIMITS });
    let (path, mut lines) = lines(&trail.directory).remove(0);
    lines[4] = lines[4].replace("uid=0", "uid=1");
    put(&path, &lines);
    let mut chain = open(&real(), &trail.directory, LIMITS).unwrap();
    // What derives from the log is written again, behind the last sound record.
    assert_eq!(append(&mut chain, (1..=4).map(act)).unwrap(), 1);
    let told = judged(&real(), &trail.directory, &[]);
    assert_eq!((told.verdict, told.findings.len(), told.findings[0].line), (Verdict::Altered, 1, Some(5)));
}

#[test]
fn a_file_that_is_none_any_more_is_kept_beside_the_trail() {
    let trail = made(30, LIMITS);
    let last = files(&trail.directory).pop().unwrap();
    fs::write(&last, "not a record\n").unwrap();
    let chain = open(&real(), &trail.directory, LIMITS).unwrap();
    assert!(last.with_extension("jsonl.damaged").exists());
    drop(chain);
    let told = judged(&real(), &trail.directory, &[*trail.heads.last().unwrap()]);
    assert_ne!(told.verdict, Verdict::Intact);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Every byte of a trail counts: whichever is changed, the trail is altered, on that line or the next.
    #[test]
    fn any_flipped_byte_is_told(file in 0_usize..64, at in 0_usize..1 << 20, flip in 1_u8..=255) {
        let trail = made(12, LIMITS);
        let files = files(&trail.directory);
        let path = &files[file % files.len()];
        let mut content = fs::read(path).unwrap();
        let at = at % content.len();
        let is_last_byte = path == files.last().unwrap() && at + 1 == content.len();
        let line = content[..at].iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
        content[at] ^= flip;
        fs::write(path, &content).unwrap();
        let told = judged(&real(), &trail.directory, &[*trail.heads.last().unwrap()]);
        if is_last_byte {
            // Without its newline the last line is one that a crash left. The anchor misses it.
            prop_assert_eq!(told.verdict, Verdict::CutOff);
        } else {
            prop_assert_eq!(told.verdict, Verdict::Altered);
            let found = &told.findings[0];
            prop_assert_eq!(found.file.as_deref(), path.file_name().and_then(|name| name.to_str()));
            prop_assert!(found.line == Some(line), "{:?} of line {}", found, line);
        }
    }

    /// Whatever is cut off the end is told as cut off, and up to which anchor it is as it was.
    #[test]
    fn any_cut_tail_is_told(bytes in 1_usize..1 << 20, anchored in 0_usize..13) {
        let trail = made(12, Limits { file_bytes: 1 << 20, ..LIMITS });
        let path = files(&trail.directory).remove(0);
        let content = fs::read(&path).unwrap();
        let keep = content.len() - 1 - bytes % (content.len() - 1);
        fs::write(&path, &content[..keep]).unwrap();
        let whole = content[..keep].iter().filter(|byte| **byte == b'\n').count() as u64;
        let anchor = trail.heads[anchored];
        let told = judged(&real(), &trail.directory, &[anchor]);
        let expected = if whole == 0 { Verdict::Altered } else if anchor.records > whole { Verdict::CutOff } else { Verdict::Intact };
        prop_assert_eq!(told.verdict, expected, "{:?}", told);
        let is_torn = told.notes.iter().any(|note| matches!(note, Note::Torn { .. }));
        prop_assert_eq!(is_torn, whole > 0 && content[keep - 1] != b'\n');
    }
}
