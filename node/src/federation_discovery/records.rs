//! The three kinds of DNS records that discovery reads, behind a trait, so that tests can make DNS lie.

use std::future::Future;
use std::pin::Pin;

use hickory_resolver::proto::rr::Name;

/// The answer to come of one look-up.
pub type Looking<'a, T> = Pin<Box<dyn Future<Output = Result<Answer<T>, RecordsError>> + Send + 'a>>;

/// Reads DNS records. A name without records of the kind is an empty answer and no error.
pub trait Records: Send + Sync {
    /// PTR: the instances of a service (RFC 6763, section 4.1).
    fn pointers<'a>(&'a self, name: &'a Name) -> Looking<'a, Name>;

    /// SRV: where an instance is (RFC 2782).
    fn services<'a>(&'a self, name: &'a Name) -> Looking<'a, Service>;

    /// TXT: what is to be known about an instance (RFC 6763, section 6). A record is a list of strings.
    fn texts<'a>(&'a self, name: &'a Name) -> Looking<'a, Vec<Vec<u8>>>;
}

/// Records of one name and kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// The records, in the order of the answer.
    pub records: Vec<T>,
    /// DNSSEC vouches for all of them: every record is signed, and a chain of signatures leads to an anchor that this
    /// node trusts.
    pub vouched: bool,
}

impl<T> Answer<T> {
    /// No records, and nobody who vouches for that.
    #[must_use]
    pub fn none() -> Self {
        Self { records: Vec::new(), vouched: false }
    }
}

/// Where an instance of a service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The lowest is tried first.
    pub priority: u16,
    /// Among those of one priority, a higher one is wanted more often.
    pub weight: u16,
    /// The TCP port.
    pub port: u16,
    /// The host. The root means that the service is decidedly not there.
    pub target: Name,
}

/// DNS did not answer, or its answer is not to be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordsError {
    /// Signatures do not fit: somebody may be lying. Nothing of this name is used.
    #[error(
        "DNSSEC says that the records of {name} are not genuine: their zone is signed, and the signatures do not fit, or were \
         left out on the way"
    )]
    Bogus {
        /// The name that was asked for.
        name: String,
    },
    /// No server answered in time, or not with an answer.
    #[error("DNS did not answer for {name}: {reason}")]
    Unanswered {
        /// The name that was asked for.
        name: String,
        /// What the resolver says.
        reason: String,
    },
}
