//! What the process says about itself: log lines on standard error, metrics on request.
//!
//! Every line has a constant message and its values in fields. What concerns security has the
//! target [`SECURITY`]. No secret is a field, and no SPIFFE ID is a label.

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{LogConfig, LogFormat};

/// Target of log lines about who was let in, who was not, and what was changed by whom.
pub const SECURITY: &str = "quorate::security";

/// Environment variable that overrides `log.level`: a level, or levels by target, as in
/// `info,quorate_actors=debug,openraft=info`.
pub const LOG_VARIABLE: &str = "QUORATE_LOG";

/// Targets of ours begin with this; libraries are shown from warnings on.
const OURS: &str = "quorate";

/// What says the same ten times a second, at four places, for as long as a member is out of reach. That it is, the
/// warnings, the metrics and `cluster members` say.
const REPEATING: [&str; 2] = ["openraft::replication", "openraft::engine::handler::replication_handler"];

/// What prints whole packets of strangers when their DNS breaks rules. What that means for us, discovery says.
const STRANGERS: &str = "hickory_net";

/// Bounds of histograms that count: powers of four, up to the largest batch and beyond.
const COUNT_BUCKETS: &[f64] = &[1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0];

/// Bounds of histograms of bytes, up to the largest batch and beyond.
const BYTES_BUCKETS: &[f64] = &[256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262_144.0, 1_048_576.0, 4_194_304.0];

/// Bounds of histograms in seconds: from what a signature takes to what an operator notices.
const SECONDS_BUCKETS: &[f64] =
    &[0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Why logs or metrics could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The environment variable says something else than levels.
    #[error(
        "{LOG_VARIABLE} is {value:?}: write a level (off, error, warn, info, debug, trace), or levels by target, as in \
         info,quorate_actors=debug"
    )]
    Variable {
        /// What it says.
        value: String,
    },
    /// The metrics registry could not be made.
    #[error("the metrics could not be set up")]
    Metrics(#[from] BuildError),
}

/// Turns on log lines, once for the process; later calls change nothing.
///
/// # Errors
/// When the environment variable is malformed.
pub fn start_logging(config: LogConfig) -> Result<(), TelemetryError> {
    let targets = match std::env::var_os(LOG_VARIABLE) {
        Some(value) if !value.is_empty() => named_targets(&value.to_string_lossy())?,
        Some(_) | None => targets(config.level),
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(targets);
    // An error means that logging is on already, which is what is wanted.
    let _ = match config.format {
        LogFormat::Text => registry.with(lines.with_ansi(std::io::stderr().is_terminal())).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    Ok(())
}

/// Takes levels that somebody wrote down.
///
/// The library takes a word that is no level for a target, and then shows nothing but that: a mistyped level would
/// silence the node. So a word by itself has to be a level here.
fn named_targets(value: &str) -> Result<Targets, TelemetryError> {
    let wrong = || TelemetryError::Variable { value: value.to_owned() };
    // The library also reads nothing at all as a level.
    let is_level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    if !value.split(',').all(|part| is_level(part.split_once('=').map_or(part, |(_, level)| level).trim())) {
        return Err(wrong());
    }
    value.parse().map_err(|_| wrong())
}

fn targets(level: Level) -> Targets {
    let libraries = match level {
        Level::ERROR => LevelFilter::ERROR,
        Level::TRACE => LevelFilter::DEBUG,
        Level::WARN | Level::INFO | Level::DEBUG => LevelFilter::WARN,
    };
    let targets = Targets::new().with_default(libraries).with_target(OURS, level);
    match level {
        Level::ERROR | Level::WARN | Level::INFO => {
            let quiet = REPEATING.iter().chain([&STRANGERS]);
            quiet.fold(targets, |targets, name| targets.with_target(*name, LevelFilter::OFF))
        }
        Level::DEBUG | Level::TRACE => targets,
    }
}

/// Logs panics like everything else, and leaves it to whoever holds the task what follows.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let message = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or_default();
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(message_of_panic = message, location, "a task panicked: a fault of this program");
    }));
}

/// The metrics registry of the process, made on first use.
///
/// # Errors
/// When it cannot be made.
pub fn metrics() -> Result<PrometheusHandle, TelemetryError> {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    if let Some(handle) = HANDLE.get() {
        return Ok(handle.clone());
    }
    let recorder = PrometheusBuilder::new()
        .set_buckets(SECONDS_BUCKETS)?
        .set_buckets_for_metric(Matcher::Suffix("_commands".to_owned()), COUNT_BUCKETS)?
        .set_buckets_for_metric(Matcher::Suffix("_bytes".to_owned()), BYTES_BUCKETS)?
        .build_recorder();
    let handle = recorder.handle();
    // Whoever is second uses the first one's registry.
    if metrics::set_global_recorder(recorder).is_ok() {
        let _ = HANDLE.set(handle.clone());
        crate::metrics::describe();
    }
    Ok(HANDLE.get().cloned().unwrap_or(handle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_quieter_than_we_are() {
        let info = targets(Level::INFO);
        assert!(info.would_enable("quorate_actors::session", &Level::INFO));
        assert!(info.would_enable(SECURITY, &Level::INFO));
        assert!(!info.would_enable("quorate_node", &Level::DEBUG));
        assert!(!info.would_enable("openraft::core", &Level::INFO));
        assert!(info.would_enable("openraft::core", &Level::WARN));
        assert!(!info.would_enable("hickory_net::dnssec", &Level::ERROR));
    }

    #[test]
    fn a_word_that_is_no_level_is_refused_with_those_there_are() {
        assert!(named_targets("info,quorate_actors=debug").unwrap().would_enable("quorate_actors", &Level::DEBUG));
        assert!(!named_targets("off").unwrap().would_enable("quorate_node", &Level::ERROR));
        for wrong in ["loud", "info,loud", "quorate_actors", "quorate_actors=loud", "=", "info,,warn", " "] {
            let error = named_targets(wrong).unwrap_err().to_string();
            assert!(error.contains("off, error, warn, info, debug, trace"), "{wrong}: {error}");
        }
    }

    #[test]
    fn the_registry_is_one_for_the_process() {
        let first = metrics().unwrap();
        metrics::counter!(crate::metrics::ACCEPT_ERRORS, "listener" => "telemetry-test").increment(3);
        assert!(metrics().unwrap().render().contains("telemetry-test"));
        assert!(first.render().contains("# HELP quorate_node_accept_errors_total"));
    }
}
