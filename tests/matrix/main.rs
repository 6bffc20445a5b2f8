//! The matrix: real programs in known modes, with and without beats, under one real Horus. Each has its expected verdict, what is done,
//! and where the loop is stuck.
//!
//! Every program is well at first and is watched until Horus knows it; then it is ordered to go wrong, and says when. Delays are measured
//! and written down, and not asserted: on a busy machine only time counts in which the program could have run. The page
//! `docs/reference/detection.md` is made here: `HORUS_UPDATE=1 cargo test -p horus-tests --test matrix -- the_matrix`.
//! `HORUS_MATRIX=asyncio-recv,c-` plays only what begins so.

#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test says what it expects")]

mod board;
mod cases;
mod holds;
mod page;
mod play;
mod programs;
mod soak;

use std::sync::Arc;

use cases::{Case, Did};
use horus_sys::files::{Durability, write_atomic};
use horus_tests::{Options, Rig, measured, skipped};
use play::Outcome;
use programs::{Place, Programs};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// So many go wrong at a time: each is looked at closely, which costs something, too.
const AT_A_TIME: usize = 8;
/// Of those that burn.
const BURNING_AT_A_TIME: usize = 2;

/// Variable that chooses some of them.
const CHOICE: &str = "HORUS_MATRIX";

/// One name for everything in a case's life.
struct Player {
    case: Case,
    place: Place,
    outcome: Option<Result<Outcome, String>>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_matrix_of_programs_and_modes() {
    let began = tokio::time::Instant::now();
    let mut rig = Rig::new(env!("CARGO_BIN_EXE_matrix-tokio"), Options::default()).await;
    let programs = Arc::new(Programs::get(&rig).await);
    let choice = std::env::var(CHOICE).ok();
    let chosen = |case: &Case| {
        choice.as_deref().is_none_or(|choice| choice.split(',').any(|start| case.name().starts_with(start)))
    };
    let mut players = Vec::new();
    for case in cases::all().into_iter().filter(chosen) {
        if let Some(why) = programs.missing(&case) {
            skipped(&case.name(), why);
            continue;
        }
        let order = rig.room.path("triggers").join(case.name());
        std::fs::create_dir_all(&order).unwrap();
        let place = Place { order, port: rig.room.port(), tokio: rig.program("matrix-tokio") };
        players.push(Player { case, place, outcome: None });
    }
    assert!(!players.is_empty(), "nothing is chosen");
    rig.run(&configuration(&rig, &players, &programs)).await;
    let players = play_all(Arc::new(rig), players, programs).await;
    let (outcomes, faults) = judge(players);
    let took = began.elapsed().as_secs();
    let acted = outcomes.values().filter(|(_, outcome)| outcome.did != Did::Nothing);
    let (acted, shown) =
        acted.fold((0, 0), |(all, shown), (_, one)| (all + 1, shown + u32::from(one.evidence)));
    measured("matrix", &format!("{} cases in {took} s; evidence for {shown} of {acted}", outcomes.len()));
    assert!(acted == 0 || shown > 0, "no evidence came for anybody");
    if choice.is_none() {
        page::update(&outcomes, took);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// All of them in one house, and enough beside them that are well: when many hang at once, a common cause is suspected.
fn configuration(rig: &Rig, players: &[Player], programs: &Programs) -> String {
    let services: String =
        players.iter().map(|player| programs.service(&player.case, &player.place)).collect();
    let hang = players.iter().filter(|player| player.case.expected.did == Did::Restarted).count();
    let order = rig.room.path("triggers");
    let tokio = rig.program("matrix-tokio");
    let well = |number| Programs::well(&format!("well-{number}"), &tokio, &order);
    services + &(0..hang * 3).map(well).collect::<String>()
}

async fn play_all(rig: Arc<Rig>, players: Vec<Player>, programs: Arc<Programs>) -> Vec<Player> {
    let (sleeping, burning) =
        (Arc::new(Semaphore::new(AT_A_TIME)), Arc::new(Semaphore::new(BURNING_AT_A_TIME)));
    let board = Arc::new(board::Board::new(rig.client.clone()));
    let mut tasks = JoinSet::new();
    for mut player in players {
        let (rig, programs, board) = (Arc::clone(&rig), Arc::clone(&programs), Arc::clone(&board));
        let (sleeping, burning) = (Arc::clone(&sleeping), Arc::clone(&burning));
        tasks.spawn(async move {
            player.outcome = Some(match play::warm_up(&board, &player.case).await {
                Err(why) => Err(why),
                Ok(()) if player.case.mode.burns => {
                    let turn = burning.acquire_owned().await.unwrap();
                    play::play(&rig, &board, &player.case, &programs, &player.place, turn).await
                }
                Ok(()) => {
                    // Of whom nothing comes is in nobody's way.
                    let quiet = player.case.expected.did == Did::Nothing;
                    let turns = if quiet { Arc::new(Semaphore::new(1)) } else { sleeping };
                    let turn = turns.acquire_owned().await.unwrap();
                    play::play(&rig, &board, &player.case, &programs, &player.place, turn).await
                }
            });
            player
        });
    }
    let mut players = Vec::new();
    while let Some(player) = tasks.join_next().await {
        players.push(player.unwrap());
    }
    let journal = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("matrix-journal.txt");
    write_atomic(&journal, rig.journal.dump().as_bytes(), Durability::ThisBoot).unwrap();
    Arc::into_inner(rig).unwrap().end().await;
    players
}

/// What came of each that could be played, by name, and what is wrong with it.
fn judge(players: Vec<Player>) -> (page::Outcomes, Vec<String>) {
    let (mut outcomes, mut faults) = (page::Outcomes::new(), Vec::new());
    for player in players {
        let name = player.case.name();
        let whole = format!("{:?}", player.outcome);
        match player.outcome {
            Some(Ok(outcome)) => {
                let wrong = play::faults(&player.case, &outcome);
                faults.extend(wrong.into_iter().map(|fault| format!("{name}: {fault}; {whole}")));
                outcomes.insert(name, (player.case, outcome));
            }
            Some(Err(why)) if player.case.mode.act.may_be_missing() => skipped(&name, &why),
            _ => faults.push(format!("{name}: {whole}")),
        }
    }
    (outcomes, faults)
}
