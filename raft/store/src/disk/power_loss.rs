//! What a power cut may leave on a [`SimulatedDisk`](super::SimulatedDisk). Test only.
//!
//! The rules of what is legal: synced bytes stay, synced names stay; of what came after the last
//! sync any part may be there, in any order of pages; a sector is old or new, never half; space that
//! a file had never synced may hold zeros or what was on the disk before.

use super::seeded::Seeded;
use super::simulated::SimulatedDisk;
use super::storage::{Change, Inode, Node, Storage};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Smallest unit a disk writes whole.
const SECTOR: usize = 512;
/// Unit in which the kernel writes back.
const PAGE: usize = 4096;

/// How a power cut treats what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerLoss {
    /// Nothing that was not synced survives.
    Lost,
    /// All of it survives: the cut came just after write-back.
    Kept,
    /// New length, but zeros where data was to come.
    Zeroed,
    /// The new bytes end early.
    Cut,
    /// Each page is old or new, by chance.
    RandomPages,
    /// Everything but the first new page.
    FirstPageLost,
    /// New up to some sector, old after it.
    TornInSectorRun,
    /// New length, but what was on the disk before where data was to come.
    StaleGarbage,
}

impl PowerLoss {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Lost,
        Self::Kept,
        Self::Zeroed,
        Self::Cut,
        Self::RandomPages,
        Self::FirstPageLost,
        Self::TornInSectorRun,
        Self::StaleGarbage,
    ];
}

impl SimulatedDisk {
    /// The disk after a power cut at this instant; this one is untouched. `seed` decides what of the
    /// unsynced names and bytes survives.
    #[must_use]
    pub fn after_power_loss(&self, kind: PowerLoss, seed: u64) -> Self {
        let mut storage = self.shared.lock().clone();
        let random = &mut Seeded::new(seed);
        storage.lose_names(kind, random);
        let stale: Vec<u8> = storage.files.values().flat_map(|inode| inode.visible.iter().copied()).collect();
        for inode in storage.files.values_mut() {
            inode.lose_content(kind, random, &stale);
        }
        Self::from_storage(storage).copy_after_kill()
    }
}

impl Storage {
    fn lose_names(&mut self, kind: PowerLoss, random: &mut Seeded) {
        let mut names = std::mem::take(&mut self.durable);
        for changes in std::mem::take(&mut self.pending_names).into_values() {
            let in_order = random.one_in(2);
            let kept = random.below(changes.len() as u64 + 1);
            for (position, change) in (0_u64..).zip(changes) {
                let by_chance = if in_order { position < kept } else { random.one_in(2) };
                let survives = kind == PowerLoss::Kept || (kind != PowerLoss::Lost && by_chance);
                if survives {
                    change.apply(&mut names);
                }
            }
        }
        let orphans: Vec<PathBuf> = names.keys().filter(|path| !has_parents(&names, path)).cloned().collect();
        for path in orphans {
            names.remove(&path);
        }
        self.visible = names.clone();
        self.durable = names;
    }
}

fn has_parents(names: &BTreeMap<PathBuf, Node>, path: &Path) -> bool {
    path.ancestors().skip(1).all(|parent| names.get(parent) == Some(&Node::Directory))
}

impl Inode {
    fn lose_content(&mut self, kind: PowerLoss, random: &mut Seeded, stale: &[u8]) {
        let old = std::mem::take(&mut self.durable);
        let pending = std::mem::take(&mut self.pending);
        let content = match kind {
            PowerLoss::Lost => old,
            PowerLoss::Kept => written(&old, &pending, pending.len()),
            PowerLoss::Zeroed
            | PowerLoss::Cut
            | PowerLoss::RandomPages
            | PowerLoss::FirstPageLost
            | PowerLoss::TornInSectorRun
            | PowerLoss::StaleGarbage => {
                // The kernel may have written back any earlier moment, not only the last.
                let count = if random.one_in(3) {
                    usize::try_from(random.below(pending.len() as u64 + 1)).unwrap_or(0)
                } else {
                    pending.len()
                };
                mix(kind, random, &old, &written(&old, &pending, count), stale)
            }
        };
        self.visible = content.clone();
        self.durable = content;
    }
}

fn written(old: &[u8], pending: &[Change], count: usize) -> Vec<u8> {
    let mut content = old.to_vec();
    pending.iter().take(count).for_each(|change| change.apply(&mut content));
    content
}

/// Puts a file together from its synced content and what was written later.
fn mix(kind: PowerLoss, random: &mut Seeded, old: &[u8], new: &[u8], stale: &[u8]) -> Vec<u8> {
    let first_new = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let from_sector = first_new / SECTOR;
    let sectors = new.len().div_ceil(SECTOR);
    let torn_at = from_sector + below(random, sectors.saturating_sub(from_sector) + 1);
    let first_page = first_new / PAGE;
    let garbage_at = below(random, stale.len().max(1));
    let page_seed = random.draw();
    let mut content = Vec::with_capacity(new.len());
    for sector in 0..sectors {
        let range = sector * SECTOR..((sector + 1) * SECTOR).min(new.len());
        let fresh = new.get(range.clone()).unwrap_or_default();
        let page = range.start / PAGE;
        let survives = match kind {
            PowerLoss::RandomPages => Seeded::new(page_seed ^ page as u64).one_in(2),
            PowerLoss::FirstPageLost => page != first_page,
            PowerLoss::TornInSectorRun | PowerLoss::Cut => sector < torn_at,
            PowerLoss::Zeroed | PowerLoss::StaleGarbage => sector < torn_at && random.one_in(2),
            PowerLoss::Lost | PowerLoss::Kept => true,
        };
        if survives {
            content.extend_from_slice(fresh);
            continue;
        }
        for place in range {
            let lost = match (old.get(place), kind) {
                (Some(byte), _) => *byte,
                (None, PowerLoss::StaleGarbage) => {
                    stale.get((garbage_at + place) % stale.len().max(1)).copied().unwrap_or(0)
                }
                (None, _) => 0,
            };
            content.push(lost);
        }
    }
    if kind == PowerLoss::Cut && new.len() > old.len() {
        content.truncate(old.len() + below(random, new.len() - old.len() + 1));
    }
    content
}

fn below(random: &mut Seeded, bound: usize) -> usize {
    usize::try_from(random.below(bound as u64)).unwrap_or(0)
}
