//! Neither garbage nor a crowd nor a hung daemon takes the API away.

use super::*;

#[tokio::test]
async fn bodies_are_bounded_in_size_time_and_kind() {
    let limits = Limits { body_patience: Duration::from_millis(100), ..Limits::default() };
    let stage = Stage::set(Script::default(), limits).await;
    in_time(async {
        let huge = format!("{{\"reason\":\"{}\"}}", "x".repeat(100_000));
        let (status, _) = problem(&stage.post("/api/v1/services/trading/hold", &huge).await);
        assert_eq!(status, 413);
        let slow = "POST /api/v1/reload HTTP/1.1\r\nhost: h\r\ncontent-length: 10\r\n\r\n{";
        let (status, _) = problem(&stage.raw(slow.as_bytes()).await);
        assert_eq!(status, 408);
        let form =
            "POST /api/v1/reload HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: 3\r\n\r\na=b";
        let (status, _) = problem(&stage.raw(form.as_bytes()).await);
        assert_eq!(status, 415);
    })
    .await;
}

#[tokio::test]
async fn garbage_disturbs_nobody() {
    let limits = Limits { head_patience: Duration::from_millis(100), ..Limits::default() };
    let stage = Stage::set(Script::default(), limits).await;
    in_time(async {
        assert!(stage.raw(b"\x16\x03\x01\x02\x00 hello\r\n\r\n").await.starts_with("HTTP/1.1 400"));
        let huge_head = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(100_000));
        assert!(stage.raw(huge_head.as_bytes()).await.starts_with("HTTP/1.1 431"));
        // A head that never ends: the connection is closed.
        stage.raw(b"GET /api/v1/sta").await;
        assert_eq!(stage.client.status().await.unwrap().services.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_hung_daemon_is_said_to_be_hung() {
    let limits = Limits { backend_patience: Duration::from_millis(50), ..Limits::default() };
    let stage = Stage::set(Script { hung: true, ..Script::default() }, limits).await;
    let (status, problem) = problem(&in_time(stage.get("/api/v1/status")).await);
    assert_eq!((status, problem.kind), (504, ProblemKind::NoAnswer));
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let stage = Stage::set(
        Script { hung: true, ..Script::default() },
        Limits { connections_max: 1, ..Limits::default() },
    )
    .await;
    in_time(async {
        let client = stage.client.clone();
        let first = tokio::spawn(async move { client.status().await });
        stage.script.reached.notified().await;
        let Err(ClientError::Problem(second)) = stage.client.version().await else {
            panic!("it was admitted")
        };
        assert_eq!(second.kind, ProblemKind::TooMany);
        first.abort();
    })
    .await;
}

#[tokio::test]
async fn followers_do_not_take_the_place_of_a_stop() {
    let stage = Stage::set(Script::default(), Limits { followers_max: 1, ..Limits::default() }).await;
    let query = EventQuery { limit: 1, ..EventQuery::default() };
    in_time(async {
        let _first = stage.client.follow_events(&query).await.unwrap();
        let Err(ClientError::Problem(second)) = stage.client.follow_events(&query).await else {
            panic!("a second follower was admitted");
        };
        assert_eq!(second.kind, ProblemKind::TooMany);
        *stage.script.steps.lock().unwrap() = vec![AskStep::Answer(Answer::Done("stopped".into()))];
        let stopped = stage.client.ask(&OperatorRequest::Stop(name("trading"))).await.unwrap();
        assert_eq!(stopped.answer().await.unwrap(), Answer::Done("stopped".into()));
    })
    .await;
}

#[tokio::test]
async fn a_stranger_at_the_socket_is_not_mistaken_for_horus() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("other.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let stranger = tokio::spawn(async move {
        for answer in ["HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", "SSH-2.0-OpenSSH\r\n"] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    in_time(async {
        let client = Client::new(&socket);
        assert!(matches!(client.status().await, Err(ClientError::NotUnderstood { .. })));
        assert!(matches!(client.status().await, Err(ClientError::Broken { .. })));
        stranger.await.unwrap();
    })
    .await;
}

/// A door that is shut for a moment: who connects meanwhile waits, and is answered by whoever serves next, on the very
/// socket that was handed on.
#[tokio::test]
async fn who_connects_while_nobody_serves_waits_for_the_next_server() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("horus.sock");
    let first = Arc::new(bind(&socket).await.unwrap());
    in_time(async {
        serve(Arc::clone(&first), Arc::new(Script::default()), Limits::default(), std::future::ready(()))
            .await;
        let client = Client::new(&socket);
        let waiting = tokio::spawn(async move { client.version().await });
        // Its connection is in the queue before anybody serves.
        UnixStream::connect(&socket).await.unwrap();
        let handed = first.as_fd().try_clone_to_owned().unwrap();
        let second = Listener::inherit(handed, &socket, first.spot().unwrap()).unwrap();
        let (end, ended) = oneshot::channel::<()>();
        let serving =
            tokio::spawn(serve(second, Arc::new(Script::default()), Limits::default(), async move {
                let _ = ended.await;
            }));
        assert_eq!(waiting.await.unwrap().unwrap().version, "0.1.0");
        end.send(()).unwrap();
        serving.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_socket_that_is_not_the_one_at_its_path_is_neither_taken_over_nor_removed() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("horus.sock");
    let old = bind(&socket).await.unwrap();
    std::fs::remove_file(&socket).unwrap();
    let _hole = std::fs::File::create(directory.path().join("hole")).unwrap();
    let new = bind(&socket).await.unwrap();
    let handed = old.as_fd().try_clone_to_owned().unwrap();
    let refused = Listener::inherit(handed, &socket, old.spot().unwrap());
    assert!(matches!(refused, Err(BindError::Replaced { .. })), "{refused:?}");
    drop(old);
    assert!(socket.exists(), "it was the socket of another");
    new.withdraw();
    assert!(!socket.exists());
}
