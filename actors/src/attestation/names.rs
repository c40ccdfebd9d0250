//! Names of users and groups, remembered for a short time.
//!
//! The system may ask a directory service for them, which blocks and can be slow; so lookups happen in blocking work
//! only, and an answer is used again for [`NAME_LIFE`].

use std::{collections::HashMap, sync::Arc, time::Duration};

use nix::unistd::{Gid, Group, Uid, User};
use parking_lot::Mutex;
use tokio::time::Instant;

/// How long a name stands without asking again. A user is rarely renamed; a minute bounds how long the old name gives
/// selectors.
const NAME_LIFE: Duration = Duration::from_secs(60);

/// How many names of each kind are remembered: more users than any host runs workloads for.
const NAMES_KEPT: usize = 4096;

/// The names known so far.
#[derive(Debug, Default)]
pub(crate) struct Names {
    users: Mutex<Remembered>,
    groups: Mutex<Remembered>,
}

type Remembered = HashMap<u32, (Instant, Option<Arc<str>>)>;

impl Names {
    /// The name of a user, if there is one. May block.
    pub(crate) fn user(&self, uid: u32) -> Option<Arc<str>> {
        look_up(&self.users, uid, |uid| User::from_uid(Uid::from_raw(uid)).map(|user| user.map(|user| user.name)))
    }

    /// The name of a group, if there is one. May block.
    pub(crate) fn group(&self, gid: u32) -> Option<Arc<str>> {
        look_up(&self.groups, gid, |gid| Group::from_gid(Gid::from_raw(gid)).map(|group| group.map(|group| group.name)))
    }
}

fn look_up(
    remembered: &Mutex<Remembered>,
    id: u32,
    ask: impl FnOnce(u32) -> nix::Result<Option<String>>,
) -> Option<Arc<str>> {
    let now = Instant::now();
    if let Some((asked, name)) = remembered.lock().get(&id)
        && now.saturating_duration_since(*asked) < NAME_LIFE
    {
        return name.clone();
    }
    let name = match ask(id) {
        Ok(name) => name.map(Arc::from),
        Err(error) => {
            // Not remembered: the next attestation asks again.
            tracing::debug!(id, error = %error, "the name of a user or group could not be looked up");
            return None;
        }
    };
    let mut remembered = remembered.lock();
    if remembered.len() >= NAMES_KEPT {
        remembered.clear();
    }
    remembered.insert(id, (now, name.clone()));
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn root_has_a_name_and_a_number_out_of_use_has_none() {
        let names = Names::default();
        assert_eq!(names.user(0).as_deref(), Some("root"));
        assert_eq!(names.group(0).as_deref(), Some("root"));
        assert_eq!(names.user(u32::MAX - 7), None);
        assert_eq!(names.group(u32::MAX - 7), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_asked_for_again_once_its_time_is_over() {
        let remembered = Mutex::default();
        let ask = |name: &'static str| move |_| Ok(Some(name.to_owned()));
        assert_eq!(look_up(&remembered, 7, ask("old")).as_deref(), Some("old"));
        assert_eq!(look_up(&remembered, 7, ask("new")).as_deref(), Some("old"));
        tokio::time::advance(NAME_LIFE).await;
        assert_eq!(look_up(&remembered, 7, ask("new")).as_deref(), Some("new"));
    }

    #[tokio::test]
    async fn a_lookup_that_fails_is_not_remembered_and_the_memory_is_bounded() {
        let remembered = Mutex::default();
        assert_eq!(look_up(&remembered, 7, |_| Err(nix::Error::EIO)), None);
        assert_eq!(look_up(&remembered, 7, |_| Ok(Some("found".into()))).as_deref(), Some("found"));
        for id in 0..10_000 {
            look_up(&remembered, id, |_| Ok(None));
        }
        assert!(remembered.lock().len() <= NAMES_KEPT);
    }
}
