//! `quorate entry count`

use clap::Args;
use quorate_proto_api::channel::CALL_LIMIT;
use quorate_proto_api::spire::entry::{CountEntriesRequest, count_entries_request};

use super::client;
use super::filter::{Filter, FilterArgs};
use crate::cli::failure::Failure;
use crate::cli::output::{Format, say};
use crate::cli::socket::ReadArgs;

/// What `quorate entry count` takes.
#[derive(Debug, Args)]
pub(crate) struct CountArgs {
    #[command(flatten)]
    read: ReadArgs,

    #[command(flatten)]
    filter: FilterArgs,
}

/// Counts entries.
pub(super) async fn run(args: CountArgs) -> Result<(), Failure> {
    let connection = args.read.connect()?;
    let filter = Filter::from(args.filter);
    let message = CountEntriesRequest {
        filter: Some(count_entries_request::Filter {
            by_spiffe_id: filter.by_spiffe_id,
            by_parent_id: filter.by_parent_id,
            by_selectors: filter.by_selectors,
            by_federates_with: filter.by_federates_with,
            by_hint: filter.by_hint,
            by_downstream: filter.by_downstream,
        }),
    };
    let count = client(&connection)
        .count_entries(connection.request(message, CALL_LIMIT))
        .await
        .map_err(connection.failed("count entries"))?
        .into_inner()
        .count;
    say(&text(args.read.output(), count))
}

/// One line in either form: scripts take it apart with nothing but a shell.
fn text(format: Format, count: i32) -> String {
    match (format, count) {
        (Format::Json, count) => format!("{{\"count\": {count}}}\n"),
        (Format::Table, 1) => "1 entry\n".to_owned(),
        (Format::Table, count) => format!("{count} entries\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_one_line() {
        assert_eq!(text(Format::Json, 3), "{\"count\": 3}\n");
        assert_eq!(text(Format::Table, 1), "1 entry\n");
        assert_eq!(text(Format::Table, 0), "0 entries\n");
    }
}
