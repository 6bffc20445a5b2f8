//! Counters that are read beside the beats, over real HTTP.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use horus_core::metric::{CounterPlan, CounterRead, Metric};
use horus_core::observation::Observation;

use crate::bench::{Bench, GENERATION, myself, name, service_plan};
use crate::http::{Server, answer, read_request};

fn metric(text: &str) -> CounterRead {
    CounterRead::Metric(Metric::parse(text).unwrap())
}

fn counter(url: &str, read: CounterRead) -> CounterPlan {
    let milliseconds = Duration::from_millis;
    CounterPlan { url: url.to_owned(), read, every: milliseconds(20), timeout: milliseconds(20_000) }
}

fn watch(bench: &mut Bench, counters: BTreeMap<String, CounterPlan>) {
    let mut plan = service_plan(bench.dir.path(), Vec::new());
    plan.counters = counters;
    let log = bench.log_path();
    bench.senses.watch(&name("bot"), GENERATION, myself(), &plan, &log);
}

async fn next(bench: &mut Bench) -> (BTreeMap<String, u64>, BTreeMap<String, String>) {
    match bench.next().await {
        Observation::Counts { generation: GENERATION, counts, unread } => (counts, unread),
        other => panic!("expected counters, got {other:?}"),
    }
}

/// Answers with these bodies in turn, the last one again and again.
async fn in_turn(bodies: Vec<String>) -> (Server, Arc<AtomicU32>) {
    let (bodies, asked) = (Arc::new(bodies), Arc::new(AtomicU32::new(0)));
    let counted = Arc::clone(&asked);
    let server = Server::start(move |_, mut stream| {
        let (bodies, asked) = (Arc::clone(&bodies), Arc::clone(&counted));
        async move {
            while read_request(&mut stream).await {
                let nth = asked.fetch_add(1, Ordering::SeqCst) as usize;
                answer(&mut stream, "200 OK", &bodies[nth.min(bodies.len() - 1)]).await;
            }
        }
    })
    .await;
    (server, asked)
}

#[tokio::test]
async fn a_page_of_prometheus_is_read_once_for_all_its_counters_and_a_reset_is_a_new_base() {
    let page = |buy: u32, sell: u32, turns: u32| {
        let padding = "# HELP padding a page is longer than a beat may be\n".repeat(4_000);
        format!(
            "{padding}# TYPE orders_total counter\norders_total{{side=\"buy\"}} {buy}\norders_total{{side=\"sell\"}} {sell}\n\
             turns_total {turns}\n"
        )
    };
    let pages = vec![page(5, 2, 100), page(6, 2, 3), page(7, 2, 4), page(7, 2, 4)];
    assert!(pages[0].len() > horus_probe::limits::BODY_BYTES_MAX);
    let (server, asked) = in_turn(pages).await;
    let mut bench = Bench::new();
    let counters =
        [("orders", "orders_total"), ("sold", "orders_total{side=\"sell\"}"), ("turns", "turns_total")];
    let counters = counters.map(|(name, text)| (name.to_owned(), counter(&server.url(), metric(text))));
    watch(&mut bench, BTreeMap::from(counters));
    let mut seen = Vec::new();
    for _ in 0..4 {
        let (counts, unread) = next(&mut bench).await;
        assert_eq!(unread, BTreeMap::new());
        seen.push((counts["orders"], counts["sold"], counts["turns"]));
    }
    assert_eq!(seen, [(7, 2, 100), (8, 2, 100), (9, 2, 101), (9, 2, 101)]);
    assert!(asked.load(Ordering::SeqCst) <= 6, "one request for three counters");
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn any_json_is_read_and_what_is_wrong_is_said_without_end() {
    let bodies = [
        r#"{"stats":{"done":[7]}}"#,
        r#"{"stats":{"done":[]}}"#,
        "{\"stats\":\n<html>",
        r#"{"stats":{"done":[9]}}"#,
    ];
    let (server, _) = in_turn(bodies.map(str::to_owned).to_vec()).await;
    let mut bench = Bench::new();
    let done = counter(&server.url(), CounterRead::Pointer("/stats/done/0".into()));
    watch(&mut bench, BTreeMap::from([("done".to_owned(), done)]));
    let done = |number: u64| BTreeMap::from([("done".to_owned(), number)]);
    assert_eq!(next(&mut bench).await, (done(7), BTreeMap::new()));
    let (counts, unread) = next(&mut bench).await;
    assert_eq!((counts.len(), unread["done"].as_str()), (0, "the answer has no '/stats/done/0'"));
    assert!(next(&mut bench).await.1["done"].contains("line 2"));
    assert_eq!(next(&mut bench).await, (done(9), BTreeMap::new()));
}

#[tokio::test]
async fn what_is_too_long_or_not_there_is_said_and_costs_a_beat_nothing() {
    let (server, _) = in_turn(vec!["a 1\n".repeat(horus_probe::limits::METRICS_BYTES_MAX / 4 + 1)]).await;
    let mut bench = Bench::new();
    let counters = [("a", server.url()), ("b", "http://127.0.0.1:1/metrics".to_owned())];
    let counters = counters.map(|(name, url)| (name.to_owned(), counter(&url, metric("a"))));
    watch(&mut bench, BTreeMap::from(counters));
    let mut unread = BTreeMap::new();
    while unread.len() < 2 {
        let (counts, why) = next(&mut bench).await;
        assert_eq!(counts, BTreeMap::new());
        unread.extend(why);
    }
    assert!(unread["a"].contains("longer than 4096 KiB"), "{unread:?}");
    assert_eq!(unread["b"], "connection refused");
}
