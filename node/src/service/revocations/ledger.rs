//! The search over what this node has issued.

use quorate_actors::{Issued, IssuedId, LedgerQuery, LedgerRow};
use quorate_proto_api::cluster::{
    IssuedSvid, LedgerGap as WireGap, LedgerRow as WireRow, SearchLedgerRequest, SearchLedgerResponse, issued_svid,
    ledger_row,
};
use quorate_proto_identity::{AuthorityId, UnixSeconds};
use quorate_raft_machine::State;
use tonic::{Request, Response, Status};

use super::{RevocationsService, target};
use crate::service::reads::{Consistency, at_applied_index};

/// Hexadecimal digits of a `jti` of ours.
const JTI_DIGITS: usize = 32;

/// Finds a page of rows.
pub(super) async fn search(
    service: &RevocationsService,
    request: Request<SearchLedgerRequest>,
) -> Result<Response<SearchLedgerResponse>, Status> {
    let state = service.reads.current(Consistency::of(&request)?).await?;
    let system = service.node.system().ok_or_else(|| Status::unavailable("the node is starting; try again"))?;
    let query = query(&request.into_inner())?;
    let page = system.ledger().search(query).await.ok_or_else(|| {
        Status::unavailable(
            "the ledger of this node cannot be read now: it is set aside and begun anew when it is damaged",
        )
    })?;
    let next_page_token = page.next.map(|next| next.to_string()).unwrap_or_default();
    let rows = state.read(|state| page.rows.iter().map(|row| to_wire(row, state)).collect());
    Ok(at_applied_index(SearchLedgerResponse { rows, next_page_token }, state.applied_index()))
}

fn query(request: &SearchLedgerRequest) -> Result<LedgerQuery, Status> {
    let SearchLedgerRequest {
        serial,
        jti,
        spiffe_id,
        entry_id,
        issuing_key,
        ends_from,
        ends_to,
        page_size,
        page_token,
    } = request;
    let given = |text: &String| (!text.is_empty()).then(|| text.clone());
    let id = match (given(serial), given(jti)) {
        (Some(_), Some(_)) => {
            return Err(Status::invalid_argument("jti: an SVID has a serial number or a jti, and never both"));
        }
        (Some(serial), None) => Some(IssuedId::Serial(target::serial(&serial)?)),
        (None, Some(jti)) => Some(IssuedId::Jti(jti_bytes(&jti)?)),
        (None, None) => None,
    };
    let authority = |text: String| {
        AuthorityId::new(&text).map_err(|error| Status::invalid_argument(format!("issuing_key: {error}")))
    };
    let page = given(page_token)
        .map(|token| token.parse().map_err(|error| Status::invalid_argument(format!("page_token: {error}"))))
        .transpose()?;
    let instant = |at: i64| (at != 0).then_some(UnixSeconds(at));
    Ok(LedgerQuery {
        id,
        spiffe_id: given(spiffe_id).map(|id| target::spiffe_id(&id)).transpose()?,
        entry: given(entry_id).map(|id| target::entry_id(&id)).transpose()?,
        issuing_key: given(issuing_key).map(authority).transpose()?,
        ends_from: instant(*ends_from),
        ends_to: instant(*ends_to),
        limit: usize::try_from(*page_size).unwrap_or(usize::MAX),
        page,
    })
}

fn jti_bytes(text: &str) -> Result<[u8; 16], Status> {
    let digits = text.len() == JTI_DIGITS && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    let number = digits.then(|| u128::from_str_radix(text, 16).ok()).flatten();
    number.map(u128::to_be_bytes).ok_or_else(|| {
        Status::invalid_argument(format!("jti: {text:?} is no jti of ours, which is 32 hexadecimal digits"))
    })
}

fn to_wire(row: &LedgerRow, state: &State) -> WireRow {
    let row = match row {
        LedgerRow::Issued(issued) => ledger_row::Row::Issued(IssuedSvid {
            id: Some(match issued.id {
                IssuedId::Serial(serial) => issued_svid::Id::Serial(serial.to_string()),
                IssuedId::Jti(jti) => issued_svid::Id::Jti(jti_text(jti)),
            }),
            spiffe_id: issued.spiffe_id.to_string(),
            entry_id: issued.entry.as_ref().map(ToString::to_string).unwrap_or_default(),
            issued_at: issued.issued_at.0,
            not_after: issued.not_after.0,
            issuing_key: issued.issuing_key.to_string(),
            revoked: is_revoked(issued, state),
        }),
        LedgerRow::Gap(gap) => ledger_row::Row::Gap(WireGap { count: gap.count, from: gap.from.0, to: gap.to.0 }),
    };
    WireRow { row: Some(row) }
}

/// As the token says it.
fn jti_text(jti: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(jti))
}

/// Whether whoever knows what this node knows refuses it.
fn is_revoked(issued: &Issued, state: &State) -> bool {
    match issued.id {
        IssuedId::Serial(serial) => {
            let mut certificates = state.certificates_of(&issued.issuing_key).peekable();
            let whole_key = certificates.peek().is_some() && certificates.all(|issuing| issuing.revoked_at.is_some());
            whole_key || state.revoked_leaf(&issued.issuing_key, serial).is_some()
        }
        IssuedId::Jti(jti) => state.token_refusal(&issued.spiffe_id, Some(&jti_text(jti)), issued.issued_at).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_looked_for_is_checked_by_its_name() {
        let empty = SearchLedgerRequest::default();
        assert_eq!(query(&empty).unwrap(), LedgerQuery::default());
        for (request, said) in [
            (SearchLedgerRequest { serial: "x".into(), ..empty.clone() }, "serial: "),
            (SearchLedgerRequest { jti: "x".into(), ..empty.clone() }, "jti: "),
            (SearchLedgerRequest { serial: "1".into(), jti: "0".repeat(32), ..empty.clone() }, "jti: an SVID"),
            (SearchLedgerRequest { spiffe_id: "x".into(), ..empty.clone() }, "spiffe_id: "),
            (SearchLedgerRequest { entry_id: " ".into(), ..empty.clone() }, "entry_id: "),
            (SearchLedgerRequest { page_token: "x".into(), ..empty }, "page_token: "),
        ] {
            let status = query(&request).unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
            assert!(status.message().starts_with(said), "{status}");
        }
    }

    #[test]
    fn a_jti_prints_and_reads_back() {
        let jti = [0x0a; 16];
        assert_eq!(jti_bytes(&jti_text(jti)).unwrap(), jti);
        assert_eq!(jti_bytes(&jti_text(jti).to_uppercase()).unwrap(), jti);
    }
}
