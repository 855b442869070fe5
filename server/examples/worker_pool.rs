//! A pool of workers, one of which crashes in the middle of its work.
//!
//! Three workers share a queue of jobs. Each *claims* jobs for three seconds: nobody else gets them
//! meanwhile. A worker *deletes* a job when it is done; that is the acknowledgement. Anna claims two
//! jobs and is never heard of again. When her claim expires the server hands her jobs to the
//! others, so every job is done in the end, and nobody had to notice that she was gone.
//!
//! ```text
//! cargo run --release -p marconi-server --example worker_pool
//! ```
//!
//! It starts a server in this process. To use one that runs, give `-- --url http://127.0.0.1:8888`;
//! it has to allow short claims: `marconi-server --min-claim-ttl 1`.

mod support;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};
use support::{Client, Result, Server};

const JOBS: [&str; 6] = ["resize", "rotate", "crop", "sharpen", "label", "upload"];
const CLAIM_TTL_S: u64 = 3;
/// The example has failed when the jobs are not done by then.
const DEADLINE: Duration = Duration::from_secs(20);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

fn main() -> Result<()> {
    let server = Server::from_arguments()?;
    let boss = server.client(1);
    boss.send("DELETE", "/v1/queues/jobs", Value::Null)?;
    boss.send("PUT", "/v1/queues/jobs", Value::Null)?;
    let messages: Vec<Value> = JOBS.iter().map(|job| json!({"ttl": 300, "body": job})).collect();
    boss.send("POST", "/v1/queues/jobs/messages", Value::Array(messages))?;
    println!("boss  posts {} jobs", JOBS.len());

    let crashed = claim("anna", &server.client(2), 2)?;
    println!("anna  crashes, with both jobs in her hands");

    let workers = [("ben", server.client(3)), ("cleo", server.client(4))];
    let workers = workers.map(|(name, client)| thread::spawn(move || work(name, &client)));
    let mut done_count_by_job = BTreeMap::new();
    for worker in workers {
        for job in worker.join().map_err(|_| "a worker panicked")?? {
            *done_count_by_job.entry(job).or_insert(0) += 1;
        }
    }

    for (job, _) in &crashed {
        if !done_count_by_job.contains_key(job) {
            return Err(format!("{job} died with anna").into());
        }
    }
    if done_count_by_job.len() != JOBS.len() || done_count_by_job.values().any(|&count| count != 1)
    {
        return Err(format!("not every job was done once: {done_count_by_job:?}").into());
    }
    println!("boss  sees an empty queue: every job was done once, those of anna by the others");
    Ok(())
}

/// Claims and deletes until the queue is empty. Returns the jobs done.
fn work(name: &str, client: &Client) -> Result<Vec<String>> {
    let started = Instant::now();
    let mut done = Vec::new();
    while started.elapsed() < DEADLINE {
        for (job, href) in claim(name, client, 1)? {
            // The address of a claimed message names the claim: who holds another one, or a
            // claim that is over, cannot delete it.
            client.send("DELETE", &href, Value::Null)?;
            println!("{name:5} has done {job}");
            done.push(job);
        }
        // An empty claim does not mean that the work is done: others may hold some, and crash.
        let (_, stats) = client.send("GET", "/v1/queues/jobs/stats", Value::Null)?;
        if stats["messages"]["total"] == 0 {
            return Ok(done);
        }
        if stats["messages"]["free"] == 0 {
            thread::sleep(POLL_INTERVAL);
        }
    }
    Err(format!("{name} still sees jobs after {DEADLINE:?}").into())
}

/// Claims up to `count` of the oldest free jobs: their names and addresses.
fn claim(name: &str, client: &Client, count: usize) -> Result<Vec<(String, String)>> {
    let target = format!("/v1/queues/jobs/claims?limit={count}");
    let (status, messages) =
        client.send("POST", &target, json!({"ttl": CLAIM_TTL_S, "grace": 60}))?;
    if status == 204 {
        return Ok(Vec::new());
    }
    let mut jobs = Vec::new();
    for message in messages.as_array().ok_or("a claim is a list")? {
        let (job, href) = (message["body"].as_str(), message["href"].as_str());
        jobs.push((job.ok_or("a job is a word")?.to_owned(), href.ok_or("no address")?.to_owned()));
    }
    let names: Vec<&str> = jobs.iter().map(|(job, _)| job.as_str()).collect();
    println!("{name:5} claims {} for {CLAIM_TTL_S} s", names.join(" and "));
    Ok(jobs)
}
