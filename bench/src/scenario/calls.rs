//! Calls that a workload or an operator makes again and again: a stream reopened, a token, a request signed.

use super::Options;
use crate::bare::{Bare, Sizes};
use crate::clients::{Admin, Clients, Workload, own_entry};
use crate::floors::Floors;
use crate::load::{Window, closed_loop};
use crate::process::Process;
use crate::product::{Product, TRUST_DOMAIN};
use crate::report::{Report, Row, Verdict, server_cost};
use crate::trouble::Trouble;
use bytes::Bytes;
use prost::Message;
use quorate_proto_identity::{KeyType, PrivateKey, SpiffeId, x509};

/// Calls of one caller in a window.
const CALLS: u64 = 200;

/// Operations of a floor in a window.
const FLOOR_OPERATIONS: u64 = 2_000;

/// Connections that callers share: a host's workloads have several.
const CONNECTIONS: usize = 4;

/// How much more a call may cost beside 100,000 other entries than beside 10.
const FLATNESS: f64 = 1.2;

/// Reopening a stream: no more than this times a bare one.
const FETCH_LIMIT: f64 = 1.3;

/// A token: no more than this times a signature and a bare call.
const JWT_LIMIT: f64 = 1.5;

/// A signed request: no more than this times verification, signature and a bare call.
const MINT_LIMIT: f64 = 1.4;

/// FetchX509SVID, first message, again and again.
pub(crate) async fn fetch(options: &Options) -> Result<Report, Trouble> {
    let products = options.products().await?;
    let x509 = match products.first() {
        Some((_, product)) => product.clients().workload().first().await?.encoded_len(),
        None => 0,
    };
    let bare = Bare::start(Sizes { x509, ..Sizes::default() }).await?;
    let scenario = Scenario {
        name: "fetch",
        limit: FETCH_LIMIT,
        floor: None,
        against: "a bare stream",
        notes: vec![format!("first message: {x509} bytes; the SVID is there already")],
    };
    scenario
        .run(options, products, bare, async |clients, process, _| reopen(clients, process, options.callers).await)
        .await
}

async fn reopen(clients: Clients, server: Process, callers: usize) -> Result<Window, Trouble> {
    let callers = clients.workloads(callers, CONNECTIONS);
    warm(&callers).await?;
    closed_loop(callers, CALLS, server, |mut caller: Workload, _| async move { caller.first().await.map(drop) }).await
}

/// Opens each connection before the clocks start.
async fn warm(callers: &[Workload]) -> Result<(), Trouble> {
    for caller in callers {
        caller.clone().first().await?;
    }
    Ok(())
}

/// FetchJWTSVID for audiences that were never asked for.
pub(crate) async fn jwt(options: &Options) -> Result<Report, Trouble> {
    let products = options.products().await?;
    let token = match products.first() {
        Some((_, product)) => product.clients().workload().token(audience(0, 0)).await?.len(),
        None => 0,
    };
    let bare = Bare::start(Sizes { jwt: token, ..Sizes::default() }).await?;
    let scenario = Scenario {
        name: "jwt",
        limit: JWT_LIMIT,
        floor: Some(("signature", Floors::sign)),
        against: "signature + bare call",
        notes: vec![format!("token: {token} bytes; every audience is new")],
    };
    scenario
        .run(options, products, bare, async |clients, process, round| {
            tokens(clients, process, options.callers, round).await
        })
        .await
}

async fn tokens(clients: Clients, server: Process, callers: usize, round: usize) -> Result<Window, Trouble> {
    let callers: Vec<(usize, Workload)> = clients.workloads(callers, CONNECTIONS).into_iter().enumerate().collect();
    for (number, caller) in &callers {
        caller.clone().token(format!("warm-{number}")).await?;
    }
    closed_loop(callers, CALLS, server, move |(number, mut caller): (usize, Workload), call| async move {
        let audience = audience(round, (number as u64) << 32 | call);
        caller.token(audience).await.map(drop)
    })
    .await
}

/// An audience that no other call of this run has; always of one length.
fn audience(round: usize, call: u64) -> String {
    format!("https://bench.example.org/{round:04}/{call:020}")
}

/// MintX509SVID from a request.
pub(crate) async fn mint(options: &Options) -> Result<Report, Trouble> {
    let products = options.products().await?;
    let csr = request()?;
    let chain = match products.first() {
        Some((_, product)) => product.clients().admin().mint(csr.clone()).await?,
        None => 0,
    };
    let bare = Bare::start(Sizes { mint: chain, ..Sizes::default() }).await?;
    let scenario = Scenario {
        name: "mint",
        limit: MINT_LIMIT,
        floor: Some(("verification + signature", Floors::verify_and_sign)),
        against: "verification + signature + bare call",
        notes: vec![format!("request: {} bytes, chain: {chain} bytes", csr.len())],
    };
    scenario
        .run(options, products, bare, async |clients, process, _| {
            minted(clients, process, options.callers, csr.clone()).await
        })
        .await
}

async fn minted(clients: Clients, server: Process, callers: usize, csr: Bytes) -> Result<Window, Trouble> {
    let callers = clients.admins(callers, CONNECTIONS);
    for caller in &callers {
        caller.clone().mint(csr.clone()).await?;
    }
    closed_loop(callers, CALLS, server, move |mut caller: Admin, _| {
        let csr = csr.clone();
        async move { caller.mint(csr).await.map(drop) }
    })
    .await
}

/// A request as a workload with a key of its own makes it.
fn request() -> Result<Bytes, Trouble> {
    let key = PrivateKey::generate(KeyType::EcP256).map_err(Trouble::crypto("key"))?;
    let id = SpiffeId::parse(&format!("spiffe://{TRUST_DOMAIN}/bench/mint")).map_err(Trouble::crypto("SPIFFE ID"))?;
    x509::build_csr(&key, &id, &[]).map(Bytes::from).map_err(Trouble::crypto("request"))
}

/// A floor by name.
type Floor = (&'static str, fn(&Floors, u64) -> Result<f64, Trouble>);

/// A call that has a bare form, and perhaps work that cannot be left out.
struct Scenario {
    name: &'static str,
    limit: f64,
    floor: Option<Floor>,
    against: &'static str,
    notes: Vec<String>,
}

impl Scenario {
    /// Rounds of floor, bare server and every product in turn.
    async fn run(
        self,
        options: &Options,
        products: Vec<(usize, Product)>,
        bare: Bare,
        measure: impl AsyncFn(Clients, Process, usize) -> Result<Window, Trouble>,
    ) -> Result<Report, Trouble> {
        let floors = Floors::new()?;
        let mut floor_costs = Vec::new();
        let mut bare_windows = Vec::new();
        let mut windows: Vec<Vec<Window>> = products.iter().map(|_| Vec::new()).collect();
        for (_, product) in &products {
            // The caller has an SVID, and it is made before the clocks start.
            product.clients().workload().first().await?;
        }
        for round in 1..=options.rounds {
            if let Some((_, floor)) = self.floor {
                floor_costs.push(floor(&floors, FLOOR_OPERATIONS)?);
            }
            bare_windows.push(measure(bare.clients(), bare.process(), round).await?);
            for ((_, product), windows) in products.iter().zip(&mut windows) {
                windows.push(measure(product.clients(), product.process(), round).await?);
            }
        }
        let mut report = Report::new(self.name, options.rounds);
        let mut floor_cost = server_cost(&bare_windows);
        if let Some((name, _)) = self.floor {
            let row = Row::floor(format!("floor: {name}"), FLOOR_OPERATIONS * options.rounds as u64, &floor_costs);
            report.rows.push(row);
            floor_cost += crate::report::median(floor_costs);
        }
        report.rows.push(Row::of(format!("floor: bare, {} callers", options.callers), &bare_windows));
        for ((entries, _), windows) in products.iter().zip(&windows) {
            let name = format!("quorate, {} callers, {entries} other entries", options.callers);
            report.rows.push(Row::of(name, windows));
            let what = format!("server CPU to {}, {entries} other entries", self.against);
            report.verdicts.push(Verdict::at_most(what, server_cost(windows) / floor_cost, self.limit));
        }
        if let [few, .., many] = windows.as_slice() {
            let what = "server CPU with the most entries to that with the fewest";
            report.verdicts.push(Verdict::at_most(what, server_cost(many) / server_cost(few), FLATNESS));
        }
        report.notes = self.notes;
        bare.stop().await?;
        for (_, product) in products {
            product.stop().await?;
        }
        Ok(report)
    }
}

/// An entry for this process, should the node have none: a demo has one already.
pub(crate) async fn have_identity(product: &Product) -> Result<(), Trouble> {
    if product.clients().workload().first().await.is_err() {
        product.clients().admin().create(vec![own_entry("/bench/caller")]).await?;
    }
    for node in 0..product.nodes() {
        product.served_by(node).await?;
    }
    Ok(())
}
