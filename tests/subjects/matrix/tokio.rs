//! A program on tokio that goes wrong in one known way when it is ordered to.
//!
//!     matrix-tokio MODE FOLDER multi|current
//!
//! When the file `go` appears in the folder, it leaves `gone` there and goes into its mode. It beats where there is a
//! `NOTIFY_SOCKET`, by `horus-heartbeat`; its main task makes the ticks.

#![forbid(unsafe_code)]

use std::io::{self, Read as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use horus_heartbeat::Beat;

const TURN: Duration = Duration::from_millis(50);
const WORKERS: usize = 2;

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [mode, folder, flavour] = words.as_slice() else {
        return Err(io::Error::other("matrix-tokio MODE FOLDER multi|current"));
    };
    let runtime = if flavour == "multi" {
        tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?
    } else {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?
    };
    let (mode, folder) = (mode.clone(), folder.clone());
    runtime.block_on(async move {
        // In a task: what `block_on` itself runs is not on a worker.
        let main = tokio::spawn(async move { work(&mode, Path::new(&folder)).await });
        main.await.map_err(io::Error::other)?
    })
}

async fn work(mode: &str, folder: &Path) -> io::Result<()> {
    let beat = Beat::from_env();
    let _beating = beat.attach().map_err(io::Error::other)?;
    let counted = beat.counter("work");
    beat.ready();
    if mode == "never" {
        let (counted, folder) = (counted.clone(), folder.to_path_buf());
        tokio::spawn(async move {
            while !ordered(&folder) {
                tokio::time::sleep(TURN).await;
                counted.increment();
            }
            std::future::pending::<()>().await;
        });
    }
    let turn = if mode == "idle" { Duration::from_secs(1) } else { TURN };
    loop {
        tokio::time::sleep(turn).await;
        beat.tick();
        if mode != "never" && mode != "idle" && ordered(folder) {
            go_wrong(mode)?;
        }
    }
}

fn go_wrong(mode: &str) -> io::Result<()> {
    match mode {
        "block-one" => ask_the_exchange(),
        "block-all" => {
            for _ in 0..WORKERS {
                tokio::spawn(async { ask_the_exchange() });
            }
            ask_the_exchange()
        }
        "mutex" => {
            take_the_ledger_twice(&Arc::new(Mutex::new(0)));
            Ok(())
        }
        "spin" => compute_for_ever(),
        _ => Ok(()),
    }
}

#[inline(never)]
fn ask_the_exchange() -> io::Result<()> {
    let exchange = TcpListener::bind(("127.0.0.1", 0))?;
    let mut connection = TcpStream::connect(exchange.local_addr()?)?;
    let mut answer = [0; 64];
    connection.read(&mut answer).map(|_| ())
}

#[inline(never)]
fn take_the_ledger_twice(ledger: &Arc<Mutex<u64>>) {
    let _first = ledger.lock().unwrap_or_else(PoisonError::into_inner);
    let _second = ledger.lock().unwrap_or_else(PoisonError::into_inner);
}

#[inline(never)]
fn compute_for_ever() -> io::Result<()> {
    let mut number = 1_u64;
    loop {
        number = std::hint::black_box(number * 48271 % 2_147_483_647);
    }
}

fn ordered(folder: &Path) -> bool {
    std::fs::remove_file(folder.join("go")).is_ok() && std::fs::File::create(folder.join("gone")).is_ok()
}
