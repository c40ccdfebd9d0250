//! `quorate bundle list`

use clap::Args;
use quorate_proto_api::channel::BULK_CALL_LIMIT;
use quorate_proto_api::spire::bundle::ListFederatedBundlesRequest;
use quorate_proto_api::spire::bundle::bundle_client::BundleClient;
use quorate_proto_api::spire::types;
use serde::Serialize;

use crate::cli::failure::Failure;
use crate::cli::json::BundleJson;
use crate::cli::output::answer;
use crate::cli::socket::ReadArgs;
use crate::cli::text::Table;
use crate::duration::Seconds;

/// Bundles a page.
const PAGE: i32 = 200;

/// What `quorate bundle list` takes.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    read: ReadArgs,
}

/// `spire.api.server.bundle.v1.ListFederatedBundlesResponse`
#[derive(Serialize)]
struct ListJson<'a> {
    bundles: Vec<BundleJson<'a>>,
    next_page_token: &'static str,
}

/// Lists the foreign bundles, page by page.
pub(super) async fn run(args: ListArgs) -> Result<(), Failure> {
    let connection = args.read.connect()?;
    let mut client = BundleClient::new(connection.channel());
    let (mut bundles, mut page_token) = (Vec::new(), String::new());
    loop {
        let message = ListFederatedBundlesRequest { output_mask: None, page_size: PAGE, page_token };
        let page = client
            .list_federated_bundles(connection.request(message, BULK_CALL_LIMIT))
            .await
            .map_err(connection.failed("list the foreign bundles"))?
            .into_inner();
        bundles.extend(page.bundles);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let json = ListJson { bundles: bundles.iter().map(Into::into).collect(), next_page_token: "" };
    answer(args.read.output(), &described(&bundles), &json)
}

fn described(bundles: &[types::Bundle]) -> String {
    if bundles.is_empty() {
        return "There are no foreign bundles\n".to_owned();
    }
    let mut table = Table::new(["TRUST DOMAIN", "X509", "JWT", "SEQUENCE", "REFRESH HINT"]);
    for bundle in bundles {
        let or_none = |is: bool, text: String| if is { text } else { "-".to_owned() };
        table.row([
            bundle.trust_domain.clone(),
            bundle.x509_authorities.len().to_string(),
            bundle.jwt_authorities.len().to_string(),
            or_none(bundle.sequence_number > 0, bundle.sequence_number.to_string()),
            or_none(bundle.refresh_hint > 0, Seconds::new(bundle.refresh_hint).to_string()),
        ]);
    }
    table.to_string()
}
