//! The real half: the server on a small disk that several clients fill at once, in some moments to the last byte, which
//! a stranger's file takes. Then nothing may be posted, what is there can be read, claimed and deleted, a `kill -9`
//! and a start change nothing, and posting comes back without one. Where the last byte is gone the log may have none
//! either: then a claim or a delete may be put off as posts are, and a start may have to wait for room.

use crate::load::connection::{Answer, Connection};
use crate::load::{Key, Seen, Server, Starter, body, ids_of_post, messages, page};
use crate::random::Random;
use anyhow::{Context, bail, ensure};
use marconi_tests::small_disk::SmallDisk;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
/// Moments without room in a trial.
const MOMENTS: u64 = 3;
const QUEUES: [&str; 3] = ["a", "b", "c"];
/// Of a body; four of them make a request that a segment of a MiB takes.
const FILL_SIZE_MAX: u64 = 50_000;
/// Most ids in one request.
const IDS_MAX: usize = 20;
/// More posts than these into a full disk are too many.
const POSTS_MAX: u64 = 200;
/// How long posting may take to come back.
const RESUME_DEADLINE: Duration = Duration::from_secs(60);
/// Pause between two looks whether it has.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// What an answer says when much is waiting, and trying again at once makes sense.
const SOON: &str = "1";

pub(super) fn trial(seed: u64) -> anyhow::Result<u64> {
    let mut trial = Trial::new(seed)?;
    for moment in 0..MOMENTS {
        let lived = trial.moment();
        lived.with_context(|| {
            format!(
                "moment {moment}, {} bytes free, reserve {}, stranger has {:?}, log:\n{}",
                trial.disk.free_bytes(),
                trial.reserve_bytes,
                std::fs::metadata(&trial.stranger).map(|data| data.len()),
                trial.server.log(),
            )
        })?;
    }
    trial.server.stop()?;
    trial.server = trial.start()?.map_err(|ended| anyhow::anyhow!("no start:\n{}", ended.log))?;
    trial.compare().context("after a stop and a start")?;
    Ok(MOMENTS)
}

struct Trial {
    random: Random,
    disk: SmallDisk,
    /// A file that is none of ours.
    stranger: PathBuf,
    starter: Starter,
    server: Server,
    /// What posting leaves free.
    reserve_bytes: u64,
    clients: u32,
    /// The number of each client's next post.
    posts: u32,
    /// What was acknowledged and is not deleted, by queue. Of what was put off nothing may be there.
    alive: Vec<BTreeSet<Seen>>,
    /// Under claims that were acknowledged: not to be deleted without.
    claimed: Vec<BTreeSet<Seen>>,
    _folder: tempfile::TempDir,
}

impl Trial {
    fn new(seed: u64) -> anyhow::Result<Trial> {
        let mut random = Random::new(seed);
        let size_bytes = (18 + random.below(12)) * MIB;
        let reserve_bytes = [0, 4, 6][random.below(3) as usize] * MIB;
        let disk = SmallDisk::mount(size_bytes).map_err(anyhow::Error::msg)?;
        let folder = tempfile::tempdir().context("make a folder")?;
        let options = vec![
            "--segment-size-bytes=1MiB".to_owned(),
            "--checkpoint-interval-bytes=1MiB".to_owned(),
            "--upkeep-interval-ms=20ms".to_owned(),
            "--max-messages-per-page=100000".to_owned(),
            format!("--disk-reserve-bytes={}MiB", reserve_bytes / MIB),
        ];
        let starter = Starter::new(&disk.path().join("data"), &folder.path().join("log"), options)?;
        let started = starter.start(&[])?;
        let server = started.map_err(|ended| anyhow::anyhow!("no start:\n{}", ended.log))?;
        let mut connection = open(server.address)?;
        for queue in QUEUES {
            let made = ask(&mut connection, "PUT", &format!("/v1/queues/{queue}"), "")?;
            ensure!(made.status == 201, "PUT is answered {}", made.status);
        }
        Ok(Trial {
            stranger: disk.path().join("stranger"),
            clients: 2 + random.below(4) as u32,
            random,
            disk,
            starter,
            server,
            reserve_bytes,
            posts: 0,
            alive: vec![BTreeSet::new(); QUEUES.len()],
            claimed: vec![BTreeSet::new(); QUEUES.len()],
            _folder: folder,
        })
    }

    fn start(&self) -> anyhow::Result<Result<Server, crate::load::Ended>> {
        self.starter.start(&[])
    }

    fn moment(&mut self) -> anyhow::Result<()> {
        // To the last byte: without a reserve, or since a stranger takes that too.
        let is_tight = self.reserve_bytes == 0 || self.random.one_in(3);
        if is_tight {
            // More than a start and what is written before posting stops may take of the reserve.
            let size = (4 + self.random.below(3)) * MIB;
            self.stranger_takes(size)?;
        }
        self.fill()?;
        if is_tight {
            self.stranger_takes(u64::MAX)?;
        }
        self.is_full(is_tight).context("full")?;
        self.compare().context("full")?;
        self.take_away(3, is_tight).context("full")?;
        if self.random.one_in(2) {
            self.server.kill();
            match self.start()? {
                Ok(server) => self.server = server,
                Err(ended) => {
                    let is_told = ended.log.contains("No space left");
                    ensure!(is_tight && is_told, "no start in the full state:\n{}", ended.log);
                    std::fs::remove_file(&self.stranger).context("the stranger leaves")?;
                    let started = self.start()?;
                    self.server =
                        started.map_err(|ended| anyhow::anyhow!("no start:\n{}", ended.log))?;
                }
            }
            self.compare().context("after a kill in the full state")?;
        }
        if is_tight {
            // It may have left already.
            let _ = std::fs::remove_file(&self.stranger);
        }
        if !is_tight || self.random.one_in(2) {
            self.take_away(usize::MAX, false).context("making room")?;
        }
        if self.random.one_in(2) {
            let answer = ask(&mut open(self.server.admin)?, "POST", "/compact", "")?;
            ensure!(answer.status < 300, "POST /compact is answered {}", answer.status);
        }
        self.resumes()?;
        self.compare().context("with room again")
    }

    /// A file that is none of ours grows by so much, or to the last byte.
    fn stranger_takes(&self, size: u64) -> anyhow::Result<()> {
        let file = File::options().create(true).append(true).open(&self.stranger);
        let mut file = file.context("the stranger's file")?;
        let mut left = size;
        let mut piece_size = 64 << 10;
        while left > 0 && piece_size > 0 {
            let piece = vec![1; piece_size.min(usize::try_from(left).unwrap_or(usize::MAX))];
            match file.write(&piece) {
                Ok(count) if count > 0 => left -= count as u64,
                _ => piece_size /= 2,
            }
        }
        Ok(())
    }

    /// All clients post until the disk is full.
    fn fill(&mut self) -> anyhow::Result<()> {
        let address = self.server.address;
        let first = self.posts;
        let clients: Vec<(u32, Random)> =
            (0..self.clients).map(|from| (from, Random::new(self.random.word()))).collect();
        let posted = thread::scope(|scope| {
            let clients: Vec<_> = clients
                .into_iter()
                .map(|(from, random)| scope.spawn(move || post_all(address, from, first, random)))
                .collect();
            let ended = clients.into_iter().map(|client| match client.join() {
                Ok(posted) => posted,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            ended.collect::<anyhow::Result<Vec<_>>>()
        })?;
        for (next, seen) in posted {
            self.posts = self.posts.max(next);
            for (queue, seen) in seen {
                self.alive[queue].insert(seen);
            }
        }
        Ok(())
    }

    /// Posts are refused, and say when to come back. What the server gives up meanwhile, such as a checkpoint that did
    /// not fit, may be room for a few more.
    fn is_full(&mut self, is_tight: bool) -> anyhow::Result<()> {
        let mut connection = open(self.server.address)?;
        for (number, queue) in QUEUES.iter().enumerate() {
            let target = format!("/v1/queues/{queue}/messages");
            let mut tries = 0;
            loop {
                let key = self.new_key();
                let document = format!("[{{\"ttl\":1000000,\"body\":{}}}]", body(key, 40_000));
                let answer = ask(&mut connection, "POST", &target, &document)?;
                if answer.status != 201 {
                    is_put_off(&answer).with_context(|| format!("POST {target}"))?;
                    break;
                }
                self.alive[number]
                    .extend(ids_of_post(&answer.body)?.into_iter().map(|id| Seen { id, key }));
                tries += 1;
                ensure!(tries < POSTS_MAX, "{tries} more posts fit");
                if is_tight {
                    self.stranger_takes(u64::MAX)?;
                }
            }
        }
        Ok(())
    }

    /// For a message of no client.
    fn new_key(&mut self) -> Key {
        self.posts += 1;
        Key { from: self.clients, post: self.posts, part: 0 }
    }

    /// Claims and deletes so many messages of each queue, some of them without a claim. With `is_tight` any of it may
    /// be put off, and nothing of that is done.
    fn take_away(&mut self, count_max: usize, is_tight: bool) -> anyhow::Result<()> {
        let mut connection = open(self.server.address)?;
        for (number, queue) in QUEUES.iter().enumerate() {
            let mut left = count_max;
            while left > 0 {
                let limit = left.min(IDS_MAX);
                let target = format!("/v1/queues/{queue}/claims?limit={limit}");
                let answer = ask(&mut connection, "POST", &target, r#"{"ttl":43000,"grace":60}"#)?;
                if answer.status == 204 {
                    break;
                }
                if is_tight && answer.status == 503 {
                    is_put_off(&answer)?;
                    break;
                }
                ensure!(
                    answer.status == 201,
                    "a claim is answered {}: {}",
                    answer.status,
                    answer.body
                );
                let location = answer.header("Location").context("a claim without Location")?;
                let claim = location.rsplit('/').next().unwrap_or_default().to_owned();
                for seen in messages(&answer.body)? {
                    ensure!(self.alive[number].contains(&seen), "{} was not there", seen.key);
                    ensure!(!self.claimed[number].contains(&seen), "{} was claimed", seen.key);
                    let target =
                        format!("/v1/queues/{queue}/messages/{}?claim_id={claim}", seen.id);
                    let answer = ask(&mut connection, "DELETE", &target, "")?;
                    match answer.status {
                        204 => drop(self.alive[number].remove(&seen)),
                        503 if is_tight => {
                            is_put_off(&answer)?;
                            self.claimed[number].insert(seen);
                        }
                        status => bail!("a delete is answered {status}: {}", answer.body),
                    }
                }
                left = left.saturating_sub(limit);
            }
            if count_max < usize::MAX {
                continue;
            }
            // By their ids alone goes what a claim holds, too.
            let ids: Vec<String> =
                self.claimed[number].iter().map(|seen| seen.id.clone()).collect();
            for ids in ids.chunks(IDS_MAX) {
                let target = format!("/v1/queues/{queue}/messages?ids={}", ids.join(","));
                let answer = ask(&mut connection, "DELETE", &target, "")?;
                ensure!(answer.status == 204, "{target} is answered {}", answer.status);
            }
            let gone = std::mem::take(&mut self.claimed[number]);
            self.alive[number].retain(|seen| !gone.contains(seen));
        }
        Ok(())
    }

    /// Posting comes back by itself.
    fn resumes(&mut self) -> anyhow::Result<()> {
        let mut connection = open(self.server.address)?;
        let key = self.new_key();
        let document = format!("[{{\"ttl\":1000000,\"body\":{}}}]", body(key, 100));
        let began = Instant::now();
        let answered = loop {
            let answer = ask(&mut connection, "POST", "/v1/queues/a/messages", &document)?;
            if answer.status != 503 {
                break answer;
            }
            ensure!(
                began.elapsed() < RESUME_DEADLINE,
                "posting does not come back: {:?}",
                self.files()
            );
            thread::park_timeout(LOOK_INTERVAL);
        };
        ensure!(answered.status == 201, "a post is answered {}", answered.status);
        for id in ids_of_post(&answered.body)? {
            self.alive[0].insert(Seen { id, key });
        }
        Ok(())
    }

    fn files(&self) -> Vec<String> {
        let list = |folder: &str| std::fs::read_dir(self.disk.path().join("data").join(folder));
        let entries = [list("log"), list("checkpoint")].into_iter().flatten().flatten().flatten();
        let shown = |entry: &std::fs::DirEntry| {
            let size = entry.metadata().map_or(0, |data| data.len());
            format!("{}: {size}", entry.file_name().display())
        };
        entries.map(|entry| shown(&entry)).collect()
    }

    /// What is listed is what was acknowledged.
    fn compare(&self) -> anyhow::Result<()> {
        let mut connection = open(self.server.address)?;
        for (number, queue) in QUEUES.iter().enumerate() {
            let target =
                format!("/v1/queues/{queue}/messages?echo=true&include_claimed=true&limit=100000");
            let answer = ask(&mut connection, "GET", &target, "")?;
            let listed = match answer.status {
                204 => Vec::new(),
                200 => page(&answer.body)?,
                status => bail!("a listing is answered {status}: {}", answer.body),
            };
            let count = listed.len();
            let listed: BTreeSet<Seen> = listed.into_iter().collect();
            ensure!(count == listed.len(), "something is listed twice");
            let lost: Vec<&Seen> = self.alive[number].difference(&listed).take(3).collect();
            ensure!(lost.is_empty(), "lost, among others: {lost:?}");
            let more: Vec<&Seen> = listed.difference(&self.alive[number]).take(3).collect();
            ensure!(more.is_empty(), "never acknowledged, or deleted, and there: {more:?}");
        }
        Ok(())
    }
}

/// Posts until the disk is full; the number of the next post, and what was acknowledged.
fn post_all(
    address: SocketAddr,
    from: u32,
    first: u32,
    mut random: Random,
) -> anyhow::Result<(u32, Vec<(usize, Seen)>)> {
    let mut connection = open(address)?;
    let mut posted = Vec::new();
    for post in first.. {
        let queue = random.below(QUEUES.len() as u64) as usize;
        let count = 1 + random.below(4) as u32;
        let mut document = String::from("[");
        for part in 0..count {
            let body = body(Key { from, post, part }, random.below(FILL_SIZE_MAX) as usize);
            let comma = if part == 0 { "" } else { "," };
            let _ = write!(document, "{comma}{{\"ttl\":1000000,\"body\":{body}}}");
        }
        document.push(']');
        let target = format!("/v1/queues/{}/messages", QUEUES[queue]);
        let answer = ask(&mut connection, "POST", &target, &document)?;
        if answer.status != 201 {
            is_put_off(&answer)?;
            if answer.header("Retry-After") == Some(SOON) {
                continue;
            }
            return Ok((post + 1, posted));
        }
        let ids = ids_of_post(&answer.body)?;
        ensure!(ids.len() == count as usize, "a post of {count} got {} ids", ids.len());
        let seen = (0..count).zip(ids).map(|(part, id)| Seen { id, key: Key { from, post, part } });
        posted.extend(seen.map(|seen| (queue, seen)));
    }
    bail!("so many posts fill no disk")
}

/// Refused for now, with a time to come back.
fn is_put_off(answer: &Answer) -> anyhow::Result<()> {
    let Answer { status, body, .. } = answer;
    ensure!(*status == 503, "answered {status} and not 503: {body}");
    answer.header("Retry-After").context("503 without Retry-After").map(drop)
}

fn open(address: SocketAddr) -> anyhow::Result<Connection> {
    Connection::open(address).context("the server does not listen")
}

fn ask(
    connection: &mut Connection,
    method: &str,
    target: &str,
    body: &str,
) -> anyhow::Result<Answer> {
    let headers = [("Client-ID", "00000000-0000-4000-8000-000000000001")];
    connection.ask(method, target, &headers, body)?.context("the server hung up")
}
