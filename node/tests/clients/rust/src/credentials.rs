//! SVIDs, bundles and tokens.

use crate::failure::Failure;
use crate::say;
use spiffe::{JwtSvid, WorkloadApiClient, X509Source, X509Svid};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

/// How often the watcher looks: far more often than anything expires.
const GLANCE: Duration = Duration::from_millis(20);

/// The SVID and both bundles.
pub(crate) async fn fetch(want: &str) -> Result<(), Failure> {
    let client = WorkloadApiClient::connect_env().await?;
    let svid = client.fetch_x509_svid().await?;
    same(want, &svid.spiffe_id().to_string())?;
    let x509_bundles = client.fetch_x509_bundles().await?;
    let jwt_bundles = client.fetch_jwt_bundles().await?;
    let trust_domain = svid.spiffe_id().trust_domain().clone();
    let x509_authorities = x509_bundles.get(&trust_domain).map_or(0, |bundle| bundle.authorities().len());
    let jwt_authorities = jwt_bundles.get(&trust_domain).map_or(0, |bundle| bundle.jwt_authorities().count());
    if x509_authorities == 0 || jwt_authorities == 0 {
        return Err(Failure::wrong("a bundle is empty"));
    }
    say(&format!(
        "fetched {want}: chain of {}, {x509_authorities} X.509 and {jwt_authorities} JWT authorities",
        svid.cert_chain().len()
    ));
    Ok(())
}

/// Looks at the source again and again: at each glance its SVID must be valid, and it must be replaced in time.
pub(crate) async fn renew(want: &str, seconds: u64, renewals: usize) -> Result<(), Failure> {
    let source = X509Source::new().await?;
    let mut serials = BTreeSet::new();
    let mut glances = 0_u64;
    let mut shortest = i64::MAX;
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        let svid = source.svid()?;
        same(want, &svid.spiffe_id().to_string())?;
        let seen = look(&svid)?;
        shortest = shortest.min(seen.seconds_left);
        serials.insert(seen.serial);
        glances += 1;
        sleep(GLANCE).await;
    }
    let renewed = serials.len().saturating_sub(1);
    if renewed < renewals {
        return Err(Failure::wrong(format!("{renewed} renewals in {seconds} s, {renewals} were expected")));
    }
    say(&format!("{renewed} renewals in {seconds} s, valid at each of {glances} glances, at least {shortest} s left"));
    source.shutdown().await;
    Ok(())
}

/// What one glance at an SVID tells.
struct Glance {
    serial: Vec<u8>,
    seconds_left: i64,
}

/// Checks every certificate of the chain against the present instant.
fn look(svid: &X509Svid) -> Result<Glance, Failure> {
    let now = ASN1Time::now();
    let mut leaf = None;
    for certificate in svid.cert_chain() {
        let (_, parsed) = X509Certificate::from_der(certificate.as_bytes())
            .map_err(|error| Failure::wrong(format!("certificate: {error}")))?;
        let validity = parsed.validity();
        if !validity.is_valid_at(now) {
            return Err(Failure::wrong(format!(
                "valid from {} to {}, it is {now}: a gap",
                validity.not_before, validity.not_after
            )));
        }
        leaf.get_or_insert(Glance {
            serial: parsed.raw_serial().to_vec(),
            seconds_left: validity.not_after.timestamp() - now.timestamp(),
        });
    }
    leaf.ok_or_else(|| Failure::wrong("an empty chain"))
}

/// A token: fetched, validated with the bundle, validated by the Workload API, refused for another audience.
pub(crate) async fn jwt(want: &str, audience: &str) -> Result<(), Failure> {
    let client = WorkloadApiClient::connect_env().await?;
    let fetched = client.fetch_jwt_svid([audience], None).await?;
    let bundles = client.fetch_jwt_bundles().await?;
    let local = JwtSvid::parse_and_validate(fetched.token(), &bundles, &[audience])?;
    same(want, &local.spiffe_id().to_string())?;
    let remote = client.validate_jwt_token(audience, fetched.token()).await?;
    same(want, &remote.spiffe_id().to_string())?;
    let other = format!("{audience}-other");
    if client.validate_jwt_token(&other, fetched.token()).await.is_ok() {
        return Err(Failure::wrong("ValidateJWTSVID took a token for another audience"));
    }
    say(&format!("token of {want} for {audience}: valid locally and by the Workload API"));
    Ok(())
}

fn same(want: &str, got: &str) -> Result<(), Failure> {
    if want == got { Ok(()) } else { Err(Failure::wrong(format!("got {got}, not {want}"))) }
}
