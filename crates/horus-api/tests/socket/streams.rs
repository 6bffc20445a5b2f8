//! Events and logs that are followed.

use super::*;

#[tokio::test]
async fn events_are_filtered_and_paged() {
    let stage = Stage::plain().await;
    for seq in 1..=5 {
        stage.script.happened(event(seq, if seq % 2 == 0 { "trading" } else { "pipeline" }, "x"));
    }
    let seqs = async |query: EventQuery| -> Vec<u64> {
        stage.client.events(&query).await.unwrap().events.iter().map(|event| event.seq).collect()
    };
    let all = EventQuery { limit: 100, ..EventQuery::default() };
    in_time(async {
        assert_eq!(seqs(all.clone()).await, [1, 2, 3, 4, 5]);
        assert_eq!(seqs(EventQuery { limit: 2, ..all.clone() }).await, [4, 5]);
        assert_eq!(seqs(EventQuery { limit: 2, after: Some(1), ..all.clone() }).await, [2, 3]);
        assert_eq!(seqs(EventQuery { subject: Some("trading".into()), ..all.clone() }).await, [2, 4]);
        assert_eq!(seqs(EventQuery { subject: Some("a&b=c d".into()), ..all.clone() }).await, [0_u64; 0]);
        assert_eq!(seqs(EventQuery { incident: Some(IncidentId::nth(7)), ..all.clone() }).await, [2]);
    })
    .await;
}

#[tokio::test]
async fn a_follower_sees_every_event_once_and_in_order() {
    let stage = Stage::plain().await;
    for seq in 1..=3 {
        stage.script.happened(event(seq, "trading", "before"));
    }
    let query = EventQuery { limit: 2, ..EventQuery::default() };
    let mut stream = in_time(stage.client.follow_events(&query)).await.unwrap();
    // Far more than the channel keeps: the follower must return to the journal.
    let script = Arc::clone(&stage.script);
    let writer = tokio::spawn(async move {
        for seq in 4..=5_000 {
            script.happened(event(seq, if seq % 7 == 0 { "pipeline" } else { "trading" }, "after"));
        }
    });
    in_time(async {
        for wanted in 2..=5_000 {
            match stream.next().await.unwrap() {
                Some(EventLine::Event(event)) => assert_eq!(event.seq, wanted),
                other => panic!("{other:?}"),
            }
        }
        writer.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_browser_gets_server_sent_events_and_resumes_by_number() {
    let stage = Stage::plain().await;
    for seq in 1..=3 {
        stage.script.happened(event(seq, "trading", "x"));
    }
    let mut stream = UnixStream::connect(&stage.socket).await.unwrap();
    let request = "GET /api/v1/events?follow=true HTTP/1.1\r\nhost: h\r\naccept: text/event-stream\r\nlast-event-id: 2\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    in_time(async {
        while !text.contains("\"text\":\"x\"") {
            let mut piece = [0; 4096];
            let count = stream.read(&mut piece).await.unwrap();
            text += &String::from_utf8_lossy(&piece[..count]);
        }
    })
    .await;
    assert!(text.contains("text/event-stream"), "{text}");
    assert!(text.contains("id: 3\nevent: event\ndata: {\"event\":{\"seq\":3,"), "{text}");
    assert!(!text.contains("id: 2"), "{text}");
}

#[tokio::test]
async fn a_silent_stream_shows_that_it_is_alive() {
    let limits = Limits { alive_every: Duration::from_millis(20), ..Limits::default() };
    let stage = Stage::set(Script::default(), limits).await;
    let mut stream = UnixStream::connect(&stage.socket).await.unwrap();
    let request = "GET /api/v1/events?follow=true HTTP/1.1\r\nhost: h\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    in_time(async {
        while !text.contains("1\r\n\n\r\n1\r\n\n\r\n") {
            let mut piece = [0; 4096];
            let count = stream.read(&mut piece).await.unwrap();
            text += &String::from_utf8_lossy(&piece[..count]);
        }
    })
    .await;
}

/// More than all buffers between the journal and a reader that does not read.
fn flood(script: &Script) {
    for seq in 1..=400 {
        script.happened(event(seq, "trading", &"x".repeat(10_000)));
    }
}

#[tokio::test]
async fn a_slow_follower_is_dropped_and_told_so() {
    let limits = Limits {
        follower_stall: Duration::from_millis(50),
        last_line_patience: FAILSAFE,
        ..Limits::default()
    };
    let stage = Stage::set(Script::default(), limits).await;
    flood(&stage.script);
    let mut stream = in_time(stage.client.follow_events(&EventQuery {
        after: Some(0),
        limit: 1,
        ..EventQuery::default()
    }))
    .await
    .unwrap();
    // Nothing is read until the daemon has given up on us.
    in_time(stage.script.live.closed()).await;
    let mut seen = 0;
    let end = in_time(async {
        loop {
            match stream.next().await.unwrap() {
                Some(EventLine::Event(event)) => {
                    seen += 1;
                    assert_eq!(event.seq, seen);
                }
                other => return other,
            }
        }
    })
    .await;
    assert!(seen > 0 && seen < 400, "{seen}");
    assert!(matches!(end, Some(EventLine::End(end)) if end.why == EndWhy::TooSlow));
}

#[tokio::test]
async fn a_follower_that_never_reads_frees_its_place() {
    let limits = Limits {
        follower_stall: Duration::from_millis(50),
        last_line_patience: Duration::from_millis(50),
        connections_max: 1,
        followers_max: 1,
        ..Limits::default()
    };
    let stage = Stage::set(Script::default(), limits).await;
    flood(&stage.script);
    let mut stuck = UnixStream::connect(&stage.socket).await.unwrap();
    let request = "GET /api/v1/events?after=0&follow=true HTTP/1.1\r\nhost: h\r\n\r\n";
    stuck.write_all(request.as_bytes()).await.unwrap();
    in_time(async {
        // Its connection is the only one there may be: whoever comes is turned away until it is closed.
        while stage.client.version().await.is_err() {
            tokio::task::yield_now().await;
        }
        let mut rest = Vec::new();
        stuck.read_to_end(&mut rest).await.unwrap();
        assert!(!rest.ends_with(b"0\r\n\r\n"), "the answer is cut, not complete");
    })
    .await;
}

#[tokio::test]
async fn logs_are_followed_byte_for_byte() {
    let script = Script::default();
    let (pieces, receiver) = mpsc::channel(1);
    *script.log_pieces.lock().unwrap() = Some(receiver);
    let stage = Stage::set(script, Limits::default()).await;
    in_time(async {
        let mut logs = stage.client.logs(&name("trading"), 5, true).await.unwrap();
        for piece in [&b"half a li"[..], b"ne\n", b"\xff\x00\n"] {
            pieces.send(Bytes::from_static(piece)).await.unwrap();
            assert_eq!(logs.next().await.unwrap().unwrap(), piece);
        }
        drop(logs);
        // The daemon learns that nobody reads.
        pieces.closed().await;
    })
    .await;
}

#[tokio::test]
async fn the_end_of_horus_ends_streams_with_a_word() {
    let mut stage = Stage::plain().await;
    let mut stream = in_time(stage.client.follow_events(&EventQuery::default())).await.unwrap();
    stage.end.take().unwrap().send(()).unwrap();
    let end = in_time(stream.next()).await.unwrap();
    assert!(matches!(end, Some(EventLine::End(end)) if end.why == EndWhy::ShuttingDown));
    assert!(matches!(in_time(stream.next()).await, Ok(None)));
    in_time(&mut stage.served).await.unwrap();
}

#[tokio::test]
async fn an_answer_in_the_making_is_finished_when_horus_ends() {
    let script = Script::default();
    *script.steps.lock().unwrap() = vec![
        AskStep::Progress(Progress { text: "SIGTERM sent".into(), limit_ms: None }),
        AskStep::Answer(Answer::Done("stopped".into())),
    ];
    let (open, gate) = oneshot::channel();
    *script.gate.lock().unwrap() = Some(gate);
    let mut stage = Stage::set(script, Limits { drain: FAILSAFE, ..Limits::default() }).await;
    in_time(async {
        let mut steps = stage.client.ask(&OperatorRequest::Stop(name("trading"))).await.unwrap();
        steps.next().await.unwrap();
        stage.end.take().unwrap().send(()).unwrap();
        while stage.socket.exists() {
            tokio::task::yield_now().await;
        }
        open.send(()).unwrap();
        assert_eq!(steps.answer().await.unwrap(), Answer::Done("stopped".into()));
        (&mut stage.served).await.unwrap();
    })
    .await;
}
