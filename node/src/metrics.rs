//! The metrics of this crate: their names, and what they count.

use metrics::describe_counter;

/// Connections that were closed at once, by `listener`.
pub(crate) const CONNECTIONS_REFUSED: &str = "quorate_node_connections_refused_total";

/// Times the system could not accept a connection, by `listener`.
pub(crate) const ACCEPT_ERRORS: &str = "quorate_node_accept_errors_total";

/// Calls answered without being served, by `listener` and `reason`.
pub(crate) const CALLS_REFUSED: &str = "quorate_node_calls_refused_total";

/// Handlers that panicked, by `listener`.
pub(crate) const HANDLER_PANICS: &str = "quorate_node_handler_panics_total";

/// Every metric with its labels and its meaning, for `/metrics` and the reference page.
pub(crate) const DESCRIPTIONS: &[(&str, &str, &str)] = &[
    (
        CONNECTIONS_REFUSED,
        "listener",
        "Connections closed at once, because the socket or the user had as many as it may.",
    ),
    (ACCEPT_ERRORS, "listener", "Times the system could not accept a connection, for want of descriptors mostly."),
    (
        CALLS_REFUSED,
        "listener, reason",
        "Calls answered without being served: reason \"header\" is a missing security header, \"calls\" a user with \
         as many in flight as it may have.",
    ),
    (HANDLER_PANICS, "listener", "Handlers that panicked. Each is a fault of this program: please report it."),
];

/// Tells the registry what each metric means.
pub(crate) fn describe() {
    for (name, _, meaning) in DESCRIPTIONS {
        describe_counter!(*name, *meaning);
    }
}
