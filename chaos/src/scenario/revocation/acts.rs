//! What is done to the cluster: leaves revoked, nodes restarted, the root replaced.

use super::judge::Judge;
use super::post::Seen;
use crate::consumers::Chain;
use crate::fleet::{Fleet, Member};
use crate::node::LOOK;
use crate::progress;
use crate::registrar::{TRUST_DOMAIN, own_entry};
use crate::trouble::Trouble;
use quorate_proto_api::spire::types;
use quorate_proto_identity::x509::{RevokedCertificate, parse_crl};
use quorate_proto_identity::{Certificate, SerialNumber};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The servers' SVID, one that is never revoked, and one that is, again and again.
pub(super) const SERVER: &str = "/server";
const STEADY: &str = "/steady";
const VICTIM: &str = "/victim";

/// What consumers are asked to accept.
pub(super) const PATHS: [&str; 2] = [STEADY, VICTIM];

/// How long after the acknowledgement an open stream may take to show what it was handed: the way through the socket.
const SHOWN: Duration = Duration::from_secs(1);

/// How long a killed node may take until its stream is open again, and a key that is gone until it is revoked.
const BACK: Duration = Duration::from_secs(60);
const GONE: Duration = Duration::from_secs(30);

/// How long all consumers may take to refuse what was revoked: the slowest reads its files and asks about all chains.
const REFUSED: Duration = Duration::from_secs(15);

/// How long chains may take to move under another root: they do when they renew.
const MOVED: Duration = Duration::from_secs(60);

/// What a leaf has at least before it is revoked, so that consumers are asked about it while it is valid, in seconds.
const LEFT: i64 = 7;

/// What was done.
#[derive(Debug, Default)]
pub(super) struct Done {
    revocations: usize,
    leaves: usize,
    pub(super) restarts: usize,
    rotations: usize,
    slowest_revocation: Duration,
    slowest_refusal: Duration,
}

impl fmt::Display for Done {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} revocations of {} leaves, each acknowledged after {:.0} ms at most and refused by every consumer {:.1} s \
             later at most; {} nodes killed and started, {} root replaced",
            self.revocations,
            self.leaves,
            self.slowest_revocation.as_secs_f64() * 1e3,
            self.slowest_refusal.as_secs_f64(),
            self.restarts,
            self.rotations
        )
    }
}

/// Makes the entries.
pub(super) async fn register(fleet: &Fleet) -> Result<(), Trouble> {
    let mut registrar = fleet.member(0)?.registrar();
    let server = types::Entry { dns_names: vec!["localhost".to_owned()], ..own_entry(SERVER) };
    for entry in [server, own_entry(STEADY), own_entry(VICTIM)] {
        registrar.create_entry(entry).await.map_err(Trouble::call("BatchCreateEntry"))?;
    }
    Ok(())
}

/// Everything, so many times.
pub(super) async fn all(fleet: &Fleet, judge: &Judge, rounds: u32) -> Result<Done, Trouble> {
    let mut done = Done::default();
    for _ in 0..rounds {
        revoke(fleet, 2, judge, &mut done).await?;
        restart(fleet, 2, judge, &mut done).await?;
        revoke(fleet, 0, judge, &mut done).await?;
        replace_root(fleet, judge, &mut done).await?;
        // The node whose stream a server's files come from.
        restart(fleet, 0, judge, &mut done).await?;
        revoke(fleet, 1, judge, &mut done).await?;
    }
    Ok(done)
}

/// Revokes what all nodes have given to one SPIFFE ID.
async fn revoke(fleet: &Fleet, by: usize, judge: &Judge, done: &mut Done) -> Result<(), Trouble> {
    let mut chains = Vec::new();
    for (post, member) in fleet.members().iter().enumerate() {
        judge.until(post, BACK, |seen| seen.current(VICTIM).is_some_and(|held| has_time(&held.chain))).await;
        let chain = judge.seen(post).current(VICTIM).map(|held| Arc::clone(&held.chain));
        let chain = chain.ok_or_else(|| Trouble::NotReached(format!("an SVID of {VICTIM} from {}", member.name())))?;
        chains.push(chain);
    }
    judge.withdraw(&chains);
    let member = fleet.member(by)?;
    let begin = Instant::now();
    let said = member.place.command(&["revoke", "--spiffe-id", &format!("spiffe://{TRUST_DOMAIN}{VICTIM}")]).await?;
    let took = begin.elapsed();
    let result = said.lines().nth(1).unwrap_or_default();
    progress(&format!("  {} revoked {VICTIM} in {:.0} ms: {result}", member.name(), took.as_secs_f64() * 1e3));
    for (post, member) in fleet.members().iter().enumerate() {
        if !judge.until(post, SHOWN, |seen| chains.iter().all(|chain| lists(seen, &chain.leaf))).await {
            judge.violated(format!("the stream of {} has no CRL with what was acknowledged (CRL-13)", member.name()));
        }
        let replaced = |seen: &Seen| {
            let current = seen.current(VICTIM);
            current.is_none_or(|held| chains.iter().all(|chain| held.chain.leaf != chain.leaf))
        };
        if !judge.until(post, SHOWN, replaced).await {
            judge.violated(format!("the stream of {} still has the revoked SVID", member.name()));
        }
    }
    let shown = Instant::now();
    for (chain, member) in chains.iter().zip(fleet.members()) {
        judge.revoked(Arc::clone(chain), member.name());
    }
    loop {
        match judge.outstanding() {
            (0, _) => break,
            (open, late) if late > 0 || shown.elapsed() > REFUSED => {
                let what =
                    format!("all consumers refused what was revoked: {open} leaves wait, {late} of them have ended");
                return Err(Trouble::NotReached(what));
            }
            (..) => sleep(LOOK).await,
        }
    }
    done.revocations += 1;
    done.leaves += chains.len();
    done.slowest_revocation = done.slowest_revocation.max(took);
    done.slowest_refusal = done.slowest_refusal.max(shown.elapsed());
    Ok(())
}

/// Kills a node and starts it again. The key that it had is gone, so it is revoked as a whole (CRL-06).
async fn restart(fleet: &Fleet, index: usize, judge: &Judge, done: &mut Done) -> Result<(), Trouble> {
    let member = fleet.member(index)?;
    let before = judge.seen(index).current(STEADY).map(|held| Arc::clone(&held.chain));
    let before = before.ok_or_else(|| Trouble::NotReached(format!("an SVID from {}", member.name())))?;
    let begin = Instant::now();
    if !member.kill().await? {
        return Err(Trouble::ProvesNothing(format!("{} was not killed", member.name())));
    }
    member.start().await?;
    back(member, index, judge).await?;
    let serves = begin.elapsed();
    for post in 0..judge.posts() {
        if !judge.until(post, GONE, |seen| !seen.open || lists(seen, &before.issuing)).await {
            judge
                .violated(format!("post {post} has no CRL with the issuing certificate of a killed {}", member.name()));
        }
    }
    progress(&format!(
        "  {} was killed; it serves after {:.1} s, its old key is revoked after {:.1} s",
        member.name(),
        serves.as_secs_f64(),
        begin.elapsed().as_secs_f64()
    ));
    if has_time(&before) {
        judge.revoked(before, member.name());
    }
    done.restarts += 1;
    Ok(())
}

async fn back(member: &Member, index: usize, judge: &Judge) -> Result<(), Trouble> {
    member.ready().await?;
    if judge.until(index, BACK, |seen| seen.open).await {
        return Ok(());
    }
    let what = format!("{} serves no stream {BACK:?} after its start", member.name());
    Err(Trouble::NotServing { what, log: member.place.log() })
}

/// Replaces the root, and waits until every chain has moved.
async fn replace_root(fleet: &Fleet, judge: &Judge, done: &mut Done) -> Result<(), Trouble> {
    let (begin, place) = (Instant::now(), &fleet.member(1)?.place);
    let before = judge.seen(1).current(STEADY).map(|held| issuer(&held.chain)).unwrap_or_default();
    place.command(&["authority", "prepare", "x509"]).await?;
    place.command(&["authority", "activate", "x509"]).await?;
    let activated = begin.elapsed();
    for (post, member) in fleet.members().iter().enumerate() {
        let moved = |seen: &Seen| seen.current(STEADY).is_some_and(|held| issuer(&held.chain) != before);
        if !judge.until(post, MOVED, moved).await {
            return Err(Trouble::NotReached(format!(
                "chains of {} under the new root within {MOVED:?}",
                member.name()
            )));
        }
    }
    progress(&format!(
        "  the root was replaced in {:.1} s; every chain is under it after {:.1} s",
        activated.as_secs_f64(),
        begin.elapsed().as_secs_f64()
    ));
    done.rotations += 1;
    Ok(())
}

/// The name of the root that signed a chain's issuing certificate.
fn issuer(chain: &Chain) -> Vec<u8> {
    Certificate::parse(&chain.issuing).map(|issuing| issuing.issuer().to_vec()).unwrap_or_default()
}

/// Whether a set at a post lists a certificate.
fn lists(seen: &Seen, certificate: &[u8]) -> bool {
    let Ok(certificate) = Certificate::parse(certificate) else { return false };
    let serial = SerialNumber::from_big_endian(certificate.serial());
    let listed = |crl: &Vec<u8>| {
        let names = |revoked: &RevokedCertificate| Some(revoked.serial) == serial;
        parse_crl(crl).is_ok_and(|crl| crl.issuer == certificate.issuer() && crl.revoked.iter().any(names))
    };
    seen.view.as_ref().is_some_and(|view| view.crls.iter().any(listed))
}

/// Whether a chain is valid for long enough to ask about it.
fn has_time(chain: &Chain) -> bool {
    let end = Certificate::parse(&chain.leaf).map(|leaf| leaf.validity().not_after());
    end.is_ok_and(|end| end > crate::clock::now().plus(LEFT))
}
