//! Several members: what is written at one is read at all.

use crate::support::{cluster::Cluster, has};

#[tokio::test]
async fn three_voters_agree_on_what_is_written_at_any_of_them_property_1() {
    let cluster = Cluster::of(3).await;
    for number in 1..=3 {
        let entry = format!("written-at-{number}");
        let applied = cluster.create_at(number, &entry).await;
        // Who writes reads it back there, with no wait in between.
        assert!(has(&cluster.handle(number), &entry), "member {number}");
        assert!(cluster.handle(number).state().applied_index() >= applied.log_index);
        cluster.until_all_have(&entry).await;
    }
}
