//! Many of a kind: queues, idle connections, cores.

use crate::figures::Round;
use crate::http::{self, Make, Same, Spread};
use crate::load::Plan;
use crate::pin::{self, Cores};
use crate::process;
use crate::server::{self, Server, Setting};
use crate::site::{Site, memory_at_rest};
use std::io;
use std::time::{Duration, Instant};

/// Queues that are many.
const QUEUES: u64 = 100_000;
/// Connections that are many.
const IDLE_CONNECTIONS: usize = 10_000;
/// How long an idle server is watched.
const WATCHED: Duration = Duration::from_secs(10);
/// Bytes of a body.
const SIZE: usize = 1024;

/// Memory and idle CPU of many empty queues; then posts spread over them against posts to one.
///
/// # Errors
/// When a server does not start or refuses.
pub(crate) fn queues(site: &Site, round: &mut Round) -> io::Result<()> {
    let folders = [site.folder()?, site.folder()?];
    let one = Server::marconi(folders[0].path(), &site.setting("os"))?;
    let many = Server::marconi(folders[1].path(), &site.setting("os"))?;
    for server in [&one, &many] {
        server.ask(http::make_queue(0).as_bytes(), &[201])?;
    }
    let before = memory_at_rest(&many)?;
    let make = |number| Make::new(1 + number as u64, QUEUES, 16);
    site.load_with(many.address, 16, Plan::all(), make)?;
    let memory = memory_at_rest(&many)? - before;
    round.put("bytes of memory a queue", memory / (QUEUES - 1) as f64);
    let (cpu, since) = (process::cpu_time(many.pid())?, Instant::now());
    while since.elapsed() < WATCHED {
        std::thread::park_timeout(WATCHED - since.elapsed().min(WATCHED));
    }
    let used = (process::cpu_time(many.pid())? - cpu).as_secs_f64() / since.elapsed().as_secs_f64();
    round.put("idle cpu %", used * 100.0);
    for (name, server, queues) in [("one-queue", &one, 1), ("many-queues", &many, QUEUES)] {
        let rate =
            site.load(server, 16, |number| Spread::new(queues, SIZE, number))?.message_rate();
        round.put(&format!("{name} post c16"), rate);
    }
    Ok(())
}

/// Memory of connections that wait after one request.
///
/// # Errors
/// When a server does not start or refuses.
pub(crate) fn connections(site: &Site, round: &mut Round) -> io::Result<()> {
    let folder = site.folder()?;
    let server = Server::marconi(folder.path(), &site.setting("os"))?;
    server.ask(http::make_queue(0).as_bytes(), &[201])?;
    let before = memory_at_rest(&server)?;
    // A claim of an empty queue: a request with a body, of which nothing stays.
    let mut claim = Vec::new();
    crate::conversation::Conversation::ask(&mut http::Take::new(0, 10), &mut claim);
    let mut open = Vec::with_capacity(IDLE_CONNECTIONS);
    for _ in 0..IDLE_CONNECTIONS {
        let mut stream = server::connect(server.address)?;
        server::exchange(&mut stream, &claim, &[204])?;
        open.push(stream);
    }
    let memory = memory_at_rest(&server)? - before;
    round.put("KiB of memory a connection", memory / 1024.0 / open.len() as f64);
    Ok(())
}

/// Posts in `os` to a server on two cores against one. Where there is no third core the load runs on the same
/// two, and both servers are on whichever the system chooses: what a post takes of the processor then says
/// what the threads cost each other, and so what two cores of their own could do at the most.
///
/// # Errors
/// When a server does not start or refuses.
pub(crate) fn cores(site: &Site, round: &mut Round) -> io::Result<()> {
    let is_shared = pin::count() < 3;
    let of = |numbers: &[usize]| if is_shared { Cores::any() } else { Cores::of(numbers) };
    let (servers, load) = ([of(&[0]), of(&[0, 1])], of(&[2]));
    for (threads, cores) in (1..).zip(&servers) {
        let folder = site.folder()?;
        let setting = Setting { threads, cores, ..site.setting("os") };
        let server = Server::marconi(folder.path(), &setting)?;
        server.ask(http::make_queue(0).as_bytes(), &[201])?;
        let site = Plan::closed(site.time);
        let talks = (0..64).map(|_| Box::new(Same::post(0, 1, SIZE)) as _).collect();
        let (cpu, since) = (process::cpu_time(server.pid())?, Instant::now());
        let outcome = load.run(|| crate::load::run(server.address, talks, site))?;
        let used = process::cpu_time(server.pid())? - cpu;
        let busy = used.as_secs_f64() / since.elapsed().as_secs_f64();
        let rate = outcome.message_rate();
        round.put(&format!("threads{threads} post c64"), rate);
        round.put(&format!("threads{threads} µs post c64"), busy / rate * 1e6);
    }
    round.put("cores", pin::count() as f64);
    Ok(())
}
