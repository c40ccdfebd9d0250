//! The Entry service on the admin socket, against spire-api.md section 7.

use std::collections::BTreeSet;

use quorate_proto_api::LOG_INDEX_HEADER;
use quorate_proto_api::spire::entry::entry_client::EntryClient;
use quorate_proto_api::spire::entry::{
    BatchCreateEntryRequest, BatchDeleteEntryRequest, BatchUpdateEntryRequest, CountEntriesRequest,
    GetAuthorizedEntriesRequest, GetEntryRequest, ListEntriesRequest, SyncAuthorizedEntriesRequest,
    batch_create_entry_response, count_entries_request, list_entries_request,
};
use quorate_proto_api::spire::types::{self, Entry, EntryMask, Selector, SelectorMatch, Spiffeid};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::node::{TestNode, entry};

/// What one item of a create came to: its code, its message, and its entry.
type Created = (Code, String, Option<Entry>);

fn client(node: &TestNode) -> EntryClient<Channel> {
    EntryClient::new(node.admin_channel()).max_decoding_message_size(usize::MAX)
}

fn created(result: batch_create_entry_response::Result) -> Created {
    let status = result.status.unwrap();
    (Code::from(status.code), status.message, result.entry)
}

async fn create(node: &TestNode, entries: Vec<Entry>) -> Result<Vec<Created>, Status> {
    let request = BatchCreateEntryRequest { entries, output_mask: None };
    let answer = client(node).batch_create_entry(request).await?.into_inner();
    Ok(answer.results.into_iter().map(created).collect())
}

async fn list(node: &TestNode, request: ListEntriesRequest) -> Result<(Vec<String>, String), Status> {
    let answer = client(node).list_entries(request).await?.into_inner();
    Ok((answer.entries.into_iter().map(|entry| entry.id).collect(), answer.next_page_token))
}

/// An entry with this ID and these `unix` selectors.
fn named(id: &str, selectors: &[&str]) -> Entry {
    let selectors: Vec<(&str, &str)> = selectors.iter().map(|value| ("unix", *value)).collect();
    Entry { id: id.to_owned(), ..entry(&format!("/{id}"), &selectors) }
}

#[tokio::test]
async fn an_entry_is_created_read_changed_and_deleted() {
    let node = TestNode::ready().await;
    let request = BatchCreateEntryRequest {
        entries: vec![Entry { x509_svid_ttl: 60, hint: "a".into(), ..entry("/web", &[("unix", "uid:1")]) }],
        output_mask: None,
    };
    let answer = client(&node).batch_create_entry(request).await.unwrap();
    let index: u64 = answer.metadata().get(LOG_INDEX_HEADER).unwrap().to_str().unwrap().parse().unwrap();
    assert!(index > 0);
    let (code, message, made) = created(answer.into_inner().results.remove(0));
    assert_eq!((code, message.as_str()), (Code::Ok, "OK"));
    let made = made.unwrap();
    assert_eq!(made.id.len(), 36, "a UUID is made: {}", made.id);
    assert!(made.created_at > 1_700_000_000 && made.revision_number == 0);

    let get = GetEntryRequest { id: made.id.clone(), output_mask: None };
    assert_eq!(client(&node).get_entry(get.clone()).await.unwrap().into_inner(), made);
    let masked = GetEntryRequest { output_mask: Some(EntryMask { hint: true, ..EntryMask::default() }), ..get.clone() };
    let expected = Entry { id: made.id.clone(), hint: "a".into(), ..Entry::default() };
    assert_eq!(client(&node).get_entry(masked).await.unwrap().into_inner(), expected);

    // Only what the input mask names is read: the other fields are empty, which would be refused.
    let request = BatchUpdateEntryRequest {
        entries: vec![
            Entry { id: made.id.clone(), x509_svid_ttl: 30, ..Entry::default() },
            Entry { id: "unknown".into(), ..Entry::default() },
            Entry::default(),
        ],
        input_mask: Some(EntryMask { x509_svid_ttl: true, ..EntryMask::default() }),
        output_mask: None,
    };
    let results = client(&node).batch_update_entry(request).await.unwrap().into_inner().results;
    let codes: Vec<Code> = results.iter().map(|result| Code::from(result.status.as_ref().unwrap().code)).collect();
    assert_eq!(codes, [Code::Ok, Code::NotFound, Code::InvalidArgument]);
    let expected = Entry { x509_svid_ttl: 30, revision_number: 1, ..made.clone() };
    assert_eq!(results[0].entry.as_ref(), Some(&expected));

    let ids = vec![made.id.clone(), made.id.clone(), String::new(), "a b".into()];
    let request = BatchDeleteEntryRequest { ids: ids.clone() };
    let results = client(&node).batch_delete_entry(request).await.unwrap().into_inner().results;
    let codes: Vec<Code> = results.iter().map(|result| Code::from(result.status.as_ref().unwrap().code)).collect();
    assert_eq!(codes, [Code::Ok, Code::NotFound, Code::InvalidArgument, Code::InvalidArgument]);
    assert_eq!(results.into_iter().map(|result| result.id).collect::<Vec<_>>(), ids);
    assert_eq!(client(&node).get_entry(get).await.unwrap_err().code(), Code::NotFound);
    let nameless = GetEntryRequest { id: String::new(), output_mask: None };
    assert_eq!(client(&node).get_entry(nameless).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn an_update_is_answered_with_what_it_made_itself() {
    let node = TestNode::ready().await;
    create(&node, vec![named("e", &["uid:1"])]).await.unwrap();
    let change = |hint: &str| Entry { id: "e".into(), hint: hint.to_owned(), ..Entry::default() };
    let request = |entries| BatchUpdateEntryRequest {
        entries,
        input_mask: Some(EntryMask { hint: true, ..EntryMask::default() }),
        output_mask: Some(EntryMask { hint: true, revision_number: true, ..EntryMask::default() }),
    };
    let answer = client(&node).batch_update_entry(request(vec![change("a"), change("b")])).await.unwrap().into_inner();
    let made: Vec<Entry> = answer.results.into_iter().map(|result| result.entry.unwrap()).collect();
    assert_eq!(made, [Entry { revision_number: 1, ..change("a") }, Entry { revision_number: 2, ..change("b") }]);

    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..64 {
        let (mut client, hint) = (client(&node), number.to_string());
        let request = request(vec![change(&hint)]);
        tasks.spawn(async move {
            let entry = client.batch_update_entry(request).await.unwrap().into_inner().results.remove(0).entry.unwrap();
            assert_eq!(entry.hint, hint, "this is another's update");
            entry.revision_number
        });
    }
    let revisions: BTreeSet<i64> = tasks.join_all().await.into_iter().collect();
    assert_eq!(revisions, (3..67).collect());
}

#[tokio::test]
async fn a_similar_entry_is_answered_and_not_made_twice() {
    let node = TestNode::ready().await;
    let first = named("first", &["uid:1", "gid:2"]);
    let same = Entry { id: "second".into(), hint: "other".into(), ..first.clone() };
    let other = Entry { id: "first".into(), ..named("third", &["uid:3"]) };
    let results = create(&node, vec![first, same.clone(), other]).await.unwrap();
    assert_eq!(results[0].0, Code::Ok);
    let (code, message, there) = results[1].clone();
    assert_eq!((code, message.as_str()), (Code::AlreadyExists, "similar entry already exists"));
    assert_eq!(there.unwrap().id, "first");
    let (code, _, there) = results[2].clone();
    assert_eq!((code, there), (Code::AlreadyExists, None), "the ID is taken");
    // Selectors are a set: their order tells no entries apart.
    let turned = Entry { selectors: same.selectors.into_iter().rev().collect(), ..named("first", &[]) };
    assert_eq!(create(&node, vec![turned]).await.unwrap()[0].0, Code::AlreadyExists);
    assert_eq!(node.count().await, 1);
}

#[tokio::test]
async fn each_item_of_a_batch_is_judged_by_itself_and_told_in_its_place() {
    let node = TestNode::ready().await;
    let good = || named("good", &["uid:1"]);
    let foreign = Some(Spiffeid { trust_domain: "other.test".into(), path: "/a".into() });
    let own = |path: &str| Some(Spiffeid { trust_domain: "example.org".into(), path: path.into() });
    let bad = [
        (Entry { spiffe_id: None, ..good() }, "spiffe_id: missing"),
        (Entry { parent_id: None, ..good() }, "parent_id: missing"),
        (Entry { spiffe_id: foreign.clone(), ..good() }, "not a member of trust domain example.org"),
        (Entry { parent_id: foreign, ..good() }, "not a member of trust domain example.org"),
        (Entry { spiffe_id: own(""), ..good() }, "no path"),
        (Entry { spiffe_id: own("/spire/nodes"), ..good() }, "reserved"),
        (Entry { spiffe_id: own("/spire"), ..good() }, "reserved"),
        (Entry { spiffe_id: own("/a//b"), ..good() }, "spiffe_id: the path has an empty segment"),
        (Entry { selectors: Vec::new(), ..good() }, "at least one"),
        (Entry { selectors: vec![Selector { r#type: "a:b".into(), value: "c".into() }], ..good() }, "selectors[0]: "),
        (Entry { x509_svid_ttl: -1, ..good() }, "x509_svid_ttl: -1 s"),
        (Entry { dns_names: vec!["a_b.test.".into()], ..good() }, "dns_names: "),
        (Entry { hint: "h".repeat(1_025), ..good() }, "hint has 1025"),
        (Entry { id: "a/b".into(), ..good() }, "id: "),
        (Entry { expires_at: -7, ..good() }, "expires_at: -7"),
    ];
    let mut entries: Vec<Entry> = bad.iter().map(|(entry, _)| entry.clone()).collect();
    entries.insert(7, good());
    let mut results = create(&node, entries).await.unwrap();
    let (code, _, made) = results.remove(7);
    assert_eq!((code, made.unwrap().id.as_str()), (Code::Ok, "good"));
    for ((code, message, entry), (_, said)) in results.into_iter().zip(bad) {
        assert_eq!((code, entry), (Code::InvalidArgument, None), "{message}");
        assert!(message.contains(said), "{message:?} should say {said:?}");
    }
    let unknown = Entry { federates_with: vec!["other.test".into()], ..named("f", &["uid:9"]) };
    assert_eq!(create(&node, vec![unknown]).await.unwrap()[0].0, Code::FailedPrecondition);
    assert_eq!(node.count().await, 1);
}

/// ATK-48.
#[tokio::test]
async fn a_batch_that_is_too_large_is_refused_as_a_whole() {
    let node = TestNode::ready().await;
    let entries = |count: usize| (0..count).map(|number| named(&format!("e{number}"), &["uid:1"])).collect();
    let error = create(&node, entries(1_001)).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("1001 items, the most is 1000"), "{}", error.message());
    let ids = vec!["e".to_owned(); 1_001];
    let error = client(&node).batch_delete_entry(BatchDeleteEntryRequest { ids }).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    // A message of more than 4 MiB is refused by its length, before any of it is read.
    let large = Entry { hint: "h".repeat(5 << 20), ..named("large", &["uid:1"]) };
    let error = create(&node, vec![large]).await.unwrap_err();
    assert_eq!(error.code(), Code::OutOfRange, "{}", error.message());
    assert_eq!(node.count().await, 0);
    let results = create(&node, entries(1_000)).await.unwrap();
    assert!(results.iter().all(|(code, _, _)| *code == Code::Ok), "the limit itself is taken");
    assert_eq!(node.count().await, 1_000);
}

#[tokio::test]
async fn pages_come_in_the_order_of_creation_and_end_with_an_empty_one() {
    let node = TestNode::ready().await;
    let names = ["z", "a", "m", "b", "y"];
    create(&node, names.iter().map(|name| named(name, &["uid:1"])).collect()).await.unwrap();
    let page = |size: i32, token: &str| ListEntriesRequest {
        page_size: size,
        page_token: token.to_owned(),
        ..ListEntriesRequest::default()
    };
    let (mut seen, mut token, mut sizes) = (Vec::new(), String::new(), Vec::new());
    loop {
        let (ids, next) = list(&node, page(2, &token)).await.unwrap();
        sizes.push(ids.len());
        seen.extend(ids);
        if next.is_empty() {
            break;
        }
        token = next;
    }
    assert_eq!(seen, names);
    assert_eq!(sizes, [2, 2, 1, 0]);
    let (ids, next) = list(&node, page(0, "nonsense")).await.unwrap();
    assert_eq!((ids, next), (names.map(str::to_owned).to_vec(), String::new()), "everything, its token not looked at");
    for (size, token) in [(-1, ""), (2, "nonsense"), (2, "-1"), (2, "01")] {
        assert_eq!(list(&node, page(size, token)).await.unwrap_err().code(), Code::InvalidArgument, "{size} {token}");
    }
}

/// ATK-48.
#[tokio::test]
async fn a_list_that_is_too_long_for_one_answer_is_refused_and_never_cut_short() {
    /// Selectors of one entry, together somewhat below the 128 KiB that an entry may have.
    const SELECTORS: usize = 120;
    const SELECTOR_BYTES: usize = 1_000;
    /// So many of them are more than 64 MiB.
    const ENTRIES: usize = 600;
    let node = TestNode::ready().await;
    let large = |number: usize| {
        let value = |selector: usize| format!("path:/{number}/{selector}/{}", "x".repeat(SELECTOR_BYTES));
        let selectors = (0..SELECTORS).map(|selector| Selector { r#type: "unix".into(), value: value(selector) });
        Entry { selectors: selectors.collect(), ..named(&format!("e{number}"), &[]) }
    };
    for first in (0..ENTRIES).step_by(30) {
        let results = create(&node, (first..first + 30).map(large).collect()).await.unwrap();
        assert!(results.iter().all(|(code, _, _)| *code == Code::Ok), "{:?}", results[0].1);
    }
    let error = list(&node, ListEntriesRequest::default()).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert!(error.message().contains("page_size"), "{}", error.message());
    let masked = ListEntriesRequest { output_mask: Some(EntryMask::default()), ..ListEntriesRequest::default() };
    assert_eq!(list(&node, masked).await.unwrap().0.len(), ENTRIES, "what is not answered does not count");

    let (mut seen, mut token) = (0, String::new());
    loop {
        let request = ListEntriesRequest { page_size: 500, page_token: token, ..ListEntriesRequest::default() };
        // A client of the usual kind, which takes 4 MiB.
        let page = EntryClient::new(node.admin_channel()).list_entries(request).await.unwrap().into_inner();
        seen += page.entries.len();
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, ENTRIES, "pages are cut to what clients take, and nothing is left out");
}

#[tokio::test]
async fn filters_compare_sets_in_four_ways_and_all_must_hold() {
    let node = TestNode::ready().await;
    let entries = vec![
        named("one", &["uid:1"]),
        named("two", &["uid:1", "gid:2"]),
        Entry { hint: "h".into(), downstream: true, ..named("other", &["gid:3"]) },
    ];
    create(&node, entries).await.unwrap();
    let found = async |filter: list_entries_request::Filter| {
        let request = ListEntriesRequest { filter: Some(filter.clone()), ..ListEntriesRequest::default() };
        let listed: BTreeSet<String> = list(&node, request).await?.0.into_iter().collect();
        let list_entries_request::Filter {
            by_spiffe_id,
            by_parent_id,
            by_selectors,
            by_federates_with,
            by_hint,
            by_downstream,
        } = filter;
        let filter = count_entries_request::Filter {
            by_spiffe_id,
            by_parent_id,
            by_selectors,
            by_federates_with,
            by_hint,
            by_downstream,
        };
        let request = CountEntriesRequest { filter: Some(filter) };
        let count = client(&node).count_entries(request).await?.into_inner().count;
        assert_eq!(count, i32::try_from(listed.len()).unwrap(), "both count alike");
        Ok::<_, Status>(listed.into_iter().collect::<Vec<_>>().join(","))
    };
    let by_selectors = |values: &[&str], mode: i32| list_entries_request::Filter {
        by_selectors: Some(SelectorMatch {
            selectors: values.iter().map(|value| Selector { r#type: "unix".into(), value: (*value).into() }).collect(),
            r#match: mode,
        }),
        ..Default::default()
    };
    assert_eq!(found(by_selectors(&["uid:1"], 0)).await.unwrap(), "one");
    assert_eq!(found(by_selectors(&["uid:1", "gid:2", "gid:9"], 1)).await.unwrap(), "one,two");
    assert_eq!(found(by_selectors(&["uid:1"], 2)).await.unwrap(), "one,two");
    assert_eq!(found(by_selectors(&["gid:2", "gid:3"], 3)).await.unwrap(), "other,two");
    assert_eq!(found(by_selectors(&[], 3)).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(found(by_selectors(&["uid:1"], 4)).await.unwrap_err().code(), Code::InvalidArgument);

    let id = |path: &str| Some(Spiffeid { trust_domain: "example.org".into(), path: path.into() });
    let filter = list_entries_request::Filter { by_spiffe_id: id("/two"), ..Default::default() };
    assert_eq!(found(filter).await.unwrap(), "two");
    let filter = list_entries_request::Filter { by_parent_id: id("/spire/nodes"), ..Default::default() };
    assert_eq!(found(filter).await.unwrap(), "one,other,two");
    let filter = list_entries_request::Filter { by_hint: Some("h".into()), ..Default::default() };
    assert_eq!(found(filter).await.unwrap(), "other");
    let filter = list_entries_request::Filter { by_downstream: Some(true), ..Default::default() };
    assert_eq!(found(filter).await.unwrap(), "other");
    let nothing =
        list_entries_request::Filter { by_hint: Some(String::new()), by_downstream: Some(false), ..Default::default() };
    assert_eq!(found(nothing).await.unwrap(), "one,other,two", "an empty hint and false are no conditions");
    let both = list_entries_request::Filter { by_hint: Some("h".into()), ..by_selectors(&["uid:1"], 2) };
    assert_eq!(found(both).await.unwrap(), "");
    let malformed = list_entries_request::Filter { by_spiffe_id: id("two"), ..Default::default() };
    assert_eq!(found(malformed).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn what_is_for_agents_is_unimplemented_and_before_the_founding_nothing_is_written() {
    let node = TestNode::waiting().await;
    let request = GetAuthorizedEntriesRequest { output_mask: None };
    assert_eq!(client(&node).get_authorized_entries(request).await.unwrap_err().code(), Code::Unimplemented);
    let request = tokio_stream::once(SyncAuthorizedEntriesRequest::default());
    assert_eq!(client(&node).sync_authorized_entries(request).await.unwrap_err().code(), Code::Unimplemented);

    let error = create(&node, vec![named("e", &["uid:1"])]).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains("quorate cluster init"), "{}", error.message());
    // A node whose directory was wiped must not say that there are no entries: it does not know (design section 4).
    let count = client(&node).count_entries(CountEntriesRequest { filter: None }).await.unwrap_err();
    let list = client(&node).list_entries(ListEntriesRequest::default()).await.unwrap_err();
    let get = GetEntryRequest { id: "e".into(), output_mask: None };
    let get = client(&node).get_entry(get).await.unwrap_err();
    assert_eq!([count.code(), list.code(), get.code()], [Code::Unavailable; 3]);
    assert!(count.message().contains("quorate cluster init"), "{}", count.message());
    let malformed = types::Entry::default();
    let results = create(&node, vec![malformed]).await.unwrap();
    assert_eq!(results[0].0, Code::InvalidArgument, "what is wrong in itself is said before anything is asked");
}
