//! DNS as it is, validated: every answer says whether DNSSEC vouches for it.
//!
//! Two resolvers read the same servers. The one that validates is asked first. What it calls bogus is not used at all. Where
//! it cannot say (the servers on the way drop signatures, which is common), the other one answers, and nobody vouches.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::dnssec::{Proof, TrustAnchors};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use crate::outbound::network::resolver;

use super::records::{Answer, Looking, Records, RecordsError, Service};

/// Longest wait for a look-up with everything that validation asks for besides.
const LOOKUP_LIMIT: Duration = Duration::from_secs(6);

/// Most labels of a name that are looked at for the beginning of its zone: those of a service, and a few of a domain.
const ZONE_LABELS_LIMIT: usize = 8;

/// Largest file of trust anchors: a key has less than a kilobyte.
const ANCHOR_FILE_LIMIT: u64 = 64 * 1024;

/// DNS cannot be asked from this node.
#[derive(Debug, thiserror::Error)]
pub enum DnsSetupError {
    /// The trust anchors cannot be read.
    #[error("cannot read the DNSSEC trust anchors {}", path.display())]
    Anchors {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// The trust anchors are none.
    #[error("{} holds no DNSSEC trust anchors: lines such as `example.org. IN DNSKEY 257 3 13 BASE64` are meant: {reason}", path.display())]
    NoAnchors {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The system's settings cannot be used.
    #[error("the system's DNS settings cannot be used: {0}")]
    System(String),
}

/// DNS over the system's servers, or configured ones.
pub struct Dns {
    validating: TokioResolver,
    plain: TokioResolver,
}

impl Dns {
    /// Prepares both resolvers. Asks nobody.
    ///
    /// # Errors
    /// When the trust anchors or the system's settings cannot be read.
    pub fn new(servers: &[SocketAddr], anchors: Option<&Path>) -> Result<Self, DnsSetupError> {
        let anchors = Arc::new(trust_anchors(anchors)?);
        let system = |error: NetError| DnsSetupError::System(error.to_string());
        let validating = resolver(servers, Some(anchors)).map_err(system)?;
        Ok(Self { validating, plain: resolver(servers, None).map_err(system)? })
    }

    async fn look<T>(
        &self,
        name: &Name,
        kind: RecordType,
        read: fn(&RData) -> Option<T>,
    ) -> Result<Answer<T>, RecordsError> {
        let unvouched = |records: Vec<Record>| Answer { records: read_all(&records, read), vouched: false };
        match lookup(&self.validating, name, kind).await {
            Ok(records) if records.iter().all(|record| record.proof != Proof::Bogus) => {
                let vouched = !records.is_empty() && records.iter().all(|record| record.proof == Proof::Secure);
                Ok(Answer { records: read_all(&records, read), vouched })
            }
            // That nothing proves them is said of unsigned records too, where the servers on the way cannot say so.
            Ok(_) | Err(Unanswered::Bogus) if self.is_signed(name).await => {
                Err(RecordsError::Bogus { name: name.to_string() })
            }
            Ok(_) | Err(Unanswered::Bogus | Unanswered::Because(_)) => match lookup(&self.plain, name, kind).await {
                Ok(records) => Ok(unvouched(records)),
                Err(Unanswered::Bogus) => Err(RecordsError::Bogus { name: name.to_string() }),
                Err(Unanswered::Because(reason)) => Err(RecordsError::Unanswered { name: name.to_string(), reason }),
            },
        }
    }

    /// Whether the zone of a name has keys. Whoever hides them gains nothing: then nobody vouches.
    async fn is_signed(&self, name: &Name) -> bool {
        let mut apex = name.clone();
        for _ in 0..ZONE_LABELS_LIMIT {
            if apex.is_root() {
                return false;
            }
            let here = async |kind| lookup(&self.plain, &apex, kind).await.is_ok_and(|records| !records.is_empty());
            if here(RecordType::SOA).await {
                return here(RecordType::DNSKEY).await;
            }
            apex = apex.base_name();
        }
        false
    }
}

impl Records for Dns {
    fn pointers<'a>(&'a self, name: &'a Name) -> Looking<'a, Name> {
        Box::pin(self.look(name, RecordType::PTR, |data| {
            if let RData::PTR(pointer) = data { Some(pointer.0.clone()) } else { None }
        }))
    }

    fn services<'a>(&'a self, name: &'a Name) -> Looking<'a, Service> {
        Box::pin(self.look(name, RecordType::SRV, |data| {
            let RData::SRV(place) = data else { return None };
            let (priority, weight, port) = (place.priority, place.weight, place.port);
            Some(Service { priority, weight, port, target: place.target.clone() })
        }))
    }

    fn texts<'a>(&'a self, name: &'a Name) -> Looking<'a, Vec<Vec<u8>>> {
        Box::pin(self.look(name, RecordType::TXT, |data| {
            let RData::TXT(text) = data else { return None };
            Some(text.txt_data.iter().map(|string| string.to_vec()).collect())
        }))
    }
}

/// Why there is no answer.
enum Unanswered {
    Bogus,
    Because(String),
}

fn read_all<T>(records: &[Record], read: fn(&RData) -> Option<T>) -> Vec<T> {
    records.iter().filter_map(|record| read(&record.data)).collect()
}

async fn lookup(resolver: &TokioResolver, name: &Name, kind: RecordType) -> Result<Vec<Record>, Unanswered> {
    let looking = resolver.lookup(name.clone(), kind);
    let Ok(looked) = tokio::time::timeout(LOOKUP_LIMIT, looking).await else {
        return Err(Unanswered::Because("no server answered in time".to_owned()));
    };
    match looked {
        // Signatures and the names on the way are not asked for, but prove nothing less.
        Ok(lookup) => {
            Ok(lookup.answers().iter().filter(|record| record.record_type() != RecordType::RRSIG).cloned().collect())
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(_))) => Ok(Vec::new()),
        Err(NetError::Dns(DnsError::Nsec { proof: Proof::Secure | Proof::Insecure, .. })) => Ok(Vec::new()),
        Err(NetError::Dns(DnsError::DnssecBogus | DnsError::Nsec { proof: Proof::Bogus, .. })) => {
            Err(Unanswered::Bogus)
        }
        Err(error) => Err(Unanswered::Because(error.to_string())),
    }
}

/// The root's keys, and those of a file besides.
fn trust_anchors(file: Option<&Path>) -> Result<TrustAnchors, DnsSetupError> {
    let root = TrustAnchors::default();
    let Some(path) = file else { return Ok(root) };
    let unread = |cause| DnsSetupError::Anchors { path: path.to_owned(), cause };
    let size = fs::metadata(path).map_err(unread)?.len();
    if size > ANCHOR_FILE_LIMIT {
        return Err(DnsSetupError::NoAnchors { path: path.to_owned(), reason: format!("it has {size} bytes") });
    }
    let text = fs::read_to_string(path).map_err(unread)?;
    let mut anchors = TrustAnchors::from_str(&text)
        .map_err(|error| DnsSetupError::NoAnchors { path: path.to_owned(), reason: error.to_string() })?;
    for key in (0..root.len()).filter_map(|index| root.get(index)) {
        anchors.insert(key);
    }
    Ok(anchors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_of_a_file_stand_beside_those_of_the_root() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("anchors");
        let key = "mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ==";
        fs::write(&file, format!("a.example. 3600 IN DNSKEY 257 3 13 {key}\n")).unwrap();
        assert_eq!(trust_anchors(Some(&file)).unwrap().len(), trust_anchors(None).unwrap().len());
        for bad in ["a.example. 3600 IN DNSKEY 257", "-----BEGIN"] {
            fs::write(&file, bad).unwrap();
            let error = trust_anchors(Some(&file)).err().unwrap();
            assert!(error.to_string().contains("holds no DNSSEC trust anchors"), "{error}");
        }
        assert!(matches!(trust_anchors(Some(Path::new("/nowhere"))), Err(DnsSetupError::Anchors { .. })));
    }

    #[tokio::test]
    async fn a_server_that_does_not_answer_is_an_error_and_no_empty_answer() {
        let deaf = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let dns = Dns::new(&[deaf.local_addr().unwrap()], None).unwrap();
        let name = Name::from_str("a.example.").unwrap();
        drop(deaf);
        let error = dns.services(&name).await.unwrap_err();
        assert!(matches!(error, RecordsError::Unanswered { .. }), "{error}");
    }
}
