//! What can be asked for, and how it is refused.

use super::*;

#[tokio::test]
async fn a_stop_tells_its_progress_and_is_done_when_it_is_verified() {
    let script = Script::default();
    let progress = Progress { text: "SIGTERM sent".into(), limit_ms: Some(20_000) };
    *script.steps.lock().unwrap() = vec![
        AskStep::Progress(progress.clone()),
        AskStep::Answer(Answer::Done("stopped; pid 4711 is gone".into())),
    ];
    let (open, gate) = oneshot::channel();
    *script.gate.lock().unwrap() = Some(gate);
    let stage = Stage::set(script, Limits::default()).await;
    in_time(async {
        let mut steps = stage.client.ask(&OperatorRequest::Stop(name("trading"))).await.unwrap();
        assert_eq!(steps.next().await.unwrap(), AskStep::Progress(progress));
        open.send(()).unwrap();
        let answer = steps.next().await.unwrap();
        assert_eq!(answer, AskStep::Answer(Answer::Done("stopped; pid 4711 is gone".into())));
    })
    .await;
}

#[tokio::test]
async fn requests_arrive_as_they_were_meant() {
    let stage = Stage::plain().await;
    let hold = OperatorRequest::Hold {
        service: name("trading"),
        reason: "disk \"swap\"".into(),
        expires_in: Some(Duration::from_secs(7_200)),
        stop: true,
    };
    let resume = OperatorRequest::Resume { service: name("trading"), reason: Some("done".into()) };
    let wanted = vec![
        OperatorRequest::Start(name("trading")),
        OperatorRequest::Restart(name("pipeline")),
        hold,
        resume,
        OperatorRequest::Resume { service: name("trading"), reason: None },
    ];
    in_time(async {
        for request in &wanted {
            *stage.script.steps.lock().unwrap() = vec![AskStep::Answer(Answer::Done("so".into()))];
            let answer = stage.client.ask(request).await.unwrap().answer().await.unwrap();
            assert_eq!(answer, Answer::Done("so".into()));
        }
    })
    .await;
    assert_eq!(*stage.script.asked.lock().unwrap(), wanted);
}

#[tokio::test]
async fn a_refusal_is_a_conflict_and_carries_the_way_out() {
    let script = Script::default();
    let refused = Answer::Refused { why: "trading is held".into(), hint: "horus resume trading".into() };
    *script.steps.lock().unwrap() = vec![AskStep::Answer(refused)];
    let stage = Stage::set(script, Limits::default()).await;
    let fault = in_time(stage.client.ask(&OperatorRequest::Start(name("trading")))).await.unwrap_err();
    let ClientError::Problem(problem) = fault else { panic!("{fault:?}") };
    assert_eq!((problem.status, problem.kind), (409, ProblemKind::Refused));
    assert_eq!(problem.hint, "horus resume trading");
}

#[tokio::test]
async fn a_request_that_is_lost_inside_is_not_reported_as_done() {
    let stage = Stage::plain().await;
    let steps = in_time(stage.client.ask(&OperatorRequest::Start(name("trading")))).await.unwrap();
    assert!(matches!(in_time(steps.answer()).await, Err(ClientError::Broken { .. })));
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_its_reason() {
    let stage = Stage::plain().await;
    let long_reason = format!("{{\"reason\":\"{}\"}}", "x".repeat(2_000));
    in_time(async {
        for (path, body, status, part) in [
            ("/api/v1/services/nobody/stop", "", 404, "known: pipeline, trading"),
            ("/api/v1/services/NOT%20A%20NAME/stop", "", 404, "a name is made of"),
            ("/api/v1/services/trading/explode", "", 404, "no path"),
            ("/api/v1/services/trading/stop", "{\"reason\":\"x\"}", 400, "unknown field"),
            ("/api/v1/services/trading/stop", "{", 400, "not understood"),
            ("/api/v1/services/trading/stop", "[1]", 400, "not understood"),
            ("/api/v1/services/trading/hold", "", 400, "`reason` is missing"),
            ("/api/v1/services/trading/hold", "{\"reason\":\"  \"}", 400, "`reason` is missing"),
            ("/api/v1/services/trading/hold", "{\"reason\":\"a\\nb\"}", 400, "control character"),
            ("/api/v1/services/trading/hold", "{\"reason\":\"a\",\"for_ms\":0}", 400, "`for_ms` is 0"),
            ("/api/v1/services/trading/hold", "{\"reason\":\"a\",\"for_ms\":-1}", 400, "not understood"),
            ("/api/v1/services/trading/hold", &long_reason, 400, "more than 1000"),
            ("/api/v1/alerts/test", "{\"sink\":\"../x\"}", 404, "no sink"),
            ("/api/v1/reload", "{\"dry\":true}", 400, "unknown field"),
            ("/api/v1/status", "", 405, "POST is not allowed"),
        ] {
            let (got, problem) = problem(&stage.post(path, body).await);
            assert_eq!(got, status, "{path} {body}: {problem:?}");
            assert!(problem.detail.contains(part), "{path} {body}: {}", problem.detail);
        }
        for (path, status, part) in [
            ("/", 404, "no path"),
            ("/api/v1/services/nobody", 404, "known: pipeline, trading"),
            ("/api/v1/services/trading/stop", 405, "GET is not allowed"),
            ("/api/v1/services/nobody/logs", 404, "known: pipeline, trading"),
            ("/api/v1/services/trading/logs?lines=many", 400, "lines"),
            ("/api/v1/events?since=3", 400, "since"),
            ("/api/v1/events?incident=zzz", 400, "incident"),
            ("/api/v1/incidents?open=perhaps", 400, "open"),
            ("/api/v1/incidents/nope!", 404, "no incident"),
            ("/api/v1/incidents/H-0000", 404, "no incident"),
        ] {
            let (got, problem) = problem(&stage.get(path).await);
            assert_eq!(got, status, "{path}: {problem:?}");
            assert!(problem.detail.contains(part), "{path}: {}", problem.detail);
        }
    })
    .await;
    assert!(stage.script.asked.lock().unwrap().is_empty(), "nothing reached the daemon");
}

#[tokio::test]
async fn an_upgrade_is_asked_for_with_or_without_a_program_and_its_outcome_is_asked_for_later() {
    let stage = Stage::plain().await;
    in_time(async {
        let steps = stage.client.upgrade(Some("/opt/horus".as_ref()), true).await.unwrap();
        assert_eq!(steps.answer().await.unwrap(), Answer::Done("Some(\"/opt/horus\") true".into()));
        let steps = stage.client.upgrade(None, false).await.unwrap();
        assert_eq!(steps.answer().await.unwrap(), Answer::Done("None false".into()));
        let Err(ClientError::Problem(refused)) =
            stage.client.upgrade(Some("/opt/broken".as_ref()), false).await
        else {
            panic!("not refused");
        };
        assert_eq!(
            (refused.kind, refused.detail.as_str()),
            (ProblemKind::Refused, "tried out, it ended with code 1")
        );
        let Err(ClientError::Problem(refused)) = stage.client.upgrade(Some("horus".as_ref()), false).await
        else {
            panic!("not refused");
        };
        assert!(refused.detail.contains("absolute path"), "{refused:?}");
        assert_eq!(stage.client.upgrade_report().await.unwrap().tries, 3);
        let (status, _) = problem(&stage.post("/api/v1/upgrade", "{\"binary\":\"/x\"}").await);
        assert_eq!(status, 400);
    })
    .await;
}

#[tokio::test]
async fn a_rule_is_noted_in_one_line_or_refused() {
    let stage = Stage::plain().await;
    in_time(async {
        let noted = stage.client.note_rule(IncidentId::nth(0), "  a test in ci ").await.unwrap();
        assert_eq!((noted.incidents, noted.unsaved), (vec![IncidentId::nth(0)], None));
        stage.client.note_drill(IncidentId::nth(0), "a drill").await.unwrap();
        for (id, text, why) in [
            (0, " ", "`text` is missing"),
            (0, "two\nlines", "`text` holds a control character"),
            (0, &*"x".repeat(1_001), "`text` is 1001 bytes long"),
            (9, "a test in ci", "there is no incident"),
        ] {
            let refused = stage.client.note_rule(IncidentId::nth(id), text).await.unwrap_err();
            assert!(refused.to_string().contains(why), "{refused}");
        }
    })
    .await;
}
