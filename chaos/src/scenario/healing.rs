//! How runs begin and end: a first workload that every node serves; and the second phase, in which nothing is done to
//! the cluster any more, and it has to come together and to have everything.

use crate::fleet::{Fleet, Member};
use crate::invariants::{inv_01, inv_02, inv_13};
use crate::linearizability::Checked;
use crate::load::{diary, issuance};
use crate::node::{LOOK, START_LIMIT};
use crate::registrar::own_entry;
use crate::run::{Run, lock};
use crate::trouble::Trouble;
use crate::{observer, progress};
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use tokio::time::{Instant, sleep};

/// Makes an entry for this very process, and waits until every node serves it: nothing counts before that.
pub(crate) async fn first_workload(fleet: &Fleet) -> Result<(), Trouble> {
    let entry = own_entry("/workload");
    fleet.member(0)?.registrar().create_entry(entry).await.map_err(Trouble::call("BatchCreateEntry"))?;
    for member in fleet.members() {
        served(member).await?;
    }
    Ok(())
}

/// Waits until a node serves this process.
pub(crate) async fn served(member: &Member) -> Result<(), Trouble> {
    let give_up = Instant::now() + START_LIMIT;
    loop {
        match issuance::served(member).await {
            Ok(()) => return Ok(()),
            Err(status) if Instant::now() > give_up => return Err(Trouble::call("FetchX509SVID")(status)),
            Err(_) => sleep(LOOK).await,
        }
    }
}

/// Writes the history of the registers.
pub(crate) fn write_history(run: &Run, path: &Path) -> Result<(), Trouble> {
    let failed = || Trouble::system(path.display().to_string());
    let file = File::create(path).map_err(failed())?;
    run.recorder.history().write_to(BufWriter::new(file)).map_err(failed())
}

/// The second phase: INV-13, then INV-03 and INV-01 on members that have all applied the same, then INV-02.
pub(crate) async fn check(run: &Run) -> Result<Checked, Trouble> {
    match inv_13::healed(&run.fleet).await? {
        Ok(after) => progress(&format!("  healed {:.1} s after the load ended", after.as_secs_f64())),
        Err(missing) => run.violations.add(inv_13::NAME, missing),
    }
    for member in run.fleet.members() {
        let path = format!("/healed/{}", member.name());
        if let Err(status) = member.registrar().create_entry(own_entry(&path)).await {
            run.violations.add(inv_13::NAME, format!("{} takes no write: {status}", member.name()));
        }
        if let Err(status) = issuance::served(member).await {
            run.violations.add(inv_13::NAME, format!("{} serves no workload: {status}", member.name()));
        }
    }
    if let Err(missing) = inv_13::healed(&run.fleet).await? {
        run.violations.add(inv_13::NAME, missing);
    }
    let mut listings = Vec::new();
    for member in run.fleet.members() {
        if let Some(status) = member.status().await {
            observer::saw(run, member.name(), &status);
        }
        let mut listing = member.registrar().everything().await?;
        listing.retain(|path, _| path.starts_with(diary::PREFIX));
        listings.push((member.name().to_owned(), listing));
    }
    for broken in inv_01::check(&mut lock(&run.oracle), &listings) {
        run.violations.add(inv_01::NAME, broken);
    }
    match inv_02::check(&run.recorder.history()) {
        Ok(checked) => Ok(checked),
        Err(violation) => {
            run.violations.add(inv_02::NAME, violation);
            Ok(Checked::default())
        }
    }
}
