//! Floors: what the work costs when nothing but the work is done, in one thread, in the same run.

use crate::trouble::Trouble;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use nix::time::{ClockId, clock_gettime};
use std::fs::OpenOptions;
use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes that are signed in a leaf certificate of a common size.
const SIGNED_BYTES: usize = 420;

/// Bytes of one small record of the log.
const RECORD_BYTES: usize = 256;

/// Keys and text for the floors of signing.
pub(crate) struct Floors {
    random: SystemRandom,
    key: EcdsaKeyPair,
    text: Vec<u8>,
    signature: Vec<u8>,
}

impl Floors {
    /// Makes a key and one signature.
    pub(crate) fn new() -> Result<Self, Trouble> {
        let random = SystemRandom::new();
        let key = generate()?;
        let text = vec![0x5a; SIGNED_BYTES];
        let signature = key.sign(&random, &text).map_err(Trouble::crypto("sign"))?.as_ref().to_vec();
        Ok(Self { random, key, text, signature })
    }

    /// Microseconds for a new key, its PKCS#8 form and one signature over it by another key: the least that an
    /// X509-SVID costs whose key the server makes.
    pub(crate) fn issue(&self, operations: u64) -> Result<f64, Trouble> {
        cost(operations, |_| {
            let key = generate()?;
            let document = key.to_pkcs8v1().map_err(Trouble::crypto("PKCS#8"))?;
            black_box(document.as_ref());
            black_box(self.key.sign(&self.random, &self.text).map_err(Trouble::crypto("sign"))?);
            Ok(())
        })
    }

    /// Microseconds for one signature.
    pub(crate) fn sign(&self, operations: u64) -> Result<f64, Trouble> {
        cost(operations, |_| {
            black_box(self.key.sign(&self.random, &self.text).map_err(Trouble::crypto("sign"))?);
            Ok(())
        })
    }

    /// Microseconds for one verification and one signature: the least that a certificate costs whose key the caller
    /// made and proves to hold.
    pub(crate) fn verify_and_sign(&self, operations: u64) -> Result<f64, Trouble> {
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, self.key.public_key().as_ref().to_vec());
        cost(operations, |_| {
            public.verify(&self.text, &self.signature).map_err(Trouble::crypto("verify"))?;
            black_box(self.key.sign(&self.random, &self.text).map_err(Trouble::crypto("sign"))?);
            Ok(())
        })
    }
}

fn generate() -> Result<EcdsaKeyPair, Trouble> {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(Trouble::crypto("generate"))
}

/// Microseconds for one small append and its sync, on the disk that holds `directory`.
pub(crate) fn sync(directory: &Path, operations: u64) -> Result<f64, Trouble> {
    let path = directory.join("bench-floor");
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(Trouble::system(path.display().to_string()))?;
    let record = [0x5a; RECORD_BYTES];
    let cost = time(operations, || {
        file.write_all(&record).map_err(Trouble::system("append"))?;
        file.sync_data().map_err(Trouble::system("sync"))
    });
    std::fs::remove_file(&path).map_err(Trouble::system(path.display().to_string()))?;
    cost
}

/// Microseconds of wall time for one.
fn time(operations: u64, mut work: impl FnMut() -> Result<(), Trouble>) -> Result<f64, Trouble> {
    let start = Instant::now();
    for _ in 0..operations {
        work()?;
    }
    Ok(start.elapsed().as_secs_f64() * 1e6 / operations as f64)
}

/// Microseconds of this thread's processor time for one: what others do on the machine is not counted.
pub(crate) fn cost(operations: u64, mut work: impl FnMut(u64) -> Result<(), Trouble>) -> Result<f64, Trouble> {
    let start = thread_cpu()?;
    for number in 0..operations {
        work(number)?;
    }
    Ok(thread_cpu()?.saturating_sub(start).as_secs_f64() * 1e6 / operations as f64)
}

fn thread_cpu() -> Result<Duration, Trouble> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_err(Trouble::errno("processor time"))?;
    Ok(Duration::from(time))
}
