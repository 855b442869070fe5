//! Screens as they are to look, from two looks at a server.

use super::*;
use serde_json::{Value, json};

/// A look at a server after so many seconds, in each of which the same was done.
fn snapshot(seconds: u64) -> Snapshot {
    let times = |most: u64, a_second: u64| {
        json!({
            "count": a_second * seconds,
            "sum": most * a_second * seconds / 2,
            "buckets": [[most / 2, 0], [most, a_second * seconds], [null, 0]],
        })
    };
    let route = |route: &str, method: &str, a_second: u64, errors: u64| {
        json!({
            "route": route, "method": method,
            "statuses": { "2xx": a_second * seconds, "4xx": errors * seconds, "5xx": 0 },
            "latency_us": times(2000, a_second),
        })
    };
    let queue = |project: Value, name: &str, free: u64, oldest_age_ms: Value| {
        json!({
            "project": project, "name": name, "free": free, "claimed": 12,
            "oldest_age_ms": oldest_age_ms,
        })
    };
    let segment = |number: u64, live_cost: u64| json!({ "number": number, "disk_size": 1000, "live_cost": live_cost });
    let document = json!({
        "stats": {
            "version": "0.1.0", "state": "up", "because": null, "uptime_ms": seconds * 1000,
            "engine": {
                "queues": 3, "live_messages": 12_345, "claims": 7,
                "posted": 1200 * seconds, "claimed": 400 * seconds, "deleted": 5 * seconds,
                "expired": 0, "log_bytes": (2 << 20) * seconds, "compacted_bytes": 0,
                "checkpoint_age_ms": 12_000, "replay_bytes": 3 << 20, "waiting_bytes": 4096,
                "segments_disk_bytes": 4000, "segments_live_bytes": 2000,
                "commit_frames": { "count": 100 * seconds, "sum": 1600 * seconds, "buckets": [] },
                "sync_us": times(800, 100),
            },
            "process": {
                "connections_open": 64, "in_flight_bytes": 512, "memory_resident_bytes": 100 << 20,
            },
            "requests": [route("messages", "POST", 300, 0), route("claims", "POST", 400, 2)],
        },
        "deepest": {
            "total": 3,
            "queues": [
                queue(json!("acme"), "orders", 12_300, json!(3000)),
                queue(json!(null), "jobs", 45, json!(7_500_000)),
                queue(json!(null), "idle", 0, json!(null)),
            ],
        },
        "oldest": {
            "total": 3,
            "queues": [
                queue(json!(null), "jobs", 45, json!(7_500_000)),
                queue(json!("acme"), "orders", 12_300, json!(3000)),
                queue(json!(null), "idle", 0, json!(null)),
            ],
        },
        "segments": [segment(1, 0), segment(2, 100), segment(3, 900), segment(4, 1000)],
        "compaction": { "running": false, "gain_bytes": 1900 },
    });
    serde_json::from_value(document).expect("as the admin API gives it")
}

const SCREEN: ScreenSize = ScreenSize { width: 80, height: 24 };

fn plain(_: Tone, text: &str) -> String {
    text.to_owned()
}

fn lines(look: &Look<'_>, size: ScreenSize) -> Vec<String> {
    let lines = render(look, size, &plain);
    lines.iter().map(|line| line.trim_end().replace('\u{a0}', " ")).collect()
}

fn look<'a>(earlier: Option<&'a Snapshot>, now: &'a Snapshot) -> Look<'a> {
    Look { url: "http://127.0.0.1:8889", earlier, now, trouble: None }
}

#[test]
fn two_looks_make_a_screen() {
    let (earlier, now) = (snapshot(10), snapshot(12));
    let expected = "\
marconi 0.1.0 at http://127.0.0.1:8889, runs for 12 s; over 2 s               up
messages  posted 1 200/s, claimed 400/s, deleted 5.0/s, expired 0/s
store     3 queues, 12 345 messages, 7 claims
requests  700/s, 64 connections, 512 B in flight; memory 100.0 MiB
commits   100/s of 16.0 frames; sync p50 600 µs, p99 796 µs
log       2.0 MiB/s, 4.0 KiB waiting; compaction would free 1.9 KiB
restart   would read 3.0 MiB after a crash; checkpoint 12 s ago

ROUTE                   requests/s   4xx/s   5xx/s      p50      p99 since start
POST claims                    400     2.0       0   1.5 ms   2.0 ms       4 800
POST messages                  300       0       0   1.5 ms   2.0 ms       3 600



DEEPEST of 3 queues       free  claimed  OLDEST                          message
acme/orders             12 300       12  jobs                          2 h 5 min
jobs                        45       12  acme/orders                         3 s
idle                         0       12



SEGMENTS by live share: 4 files, 3.9 KiB, 2.0 KiB live (50 %)
·▁██";
    let found = lines(&look(Some(&earlier), &now), SCREEN).join("\n");
    assert!(found == expected, "\n{found}\n");
}

#[test]
fn screens_keep_to_their_size() {
    let mut now = snapshot(3_600_000);
    now.stats.engine.live_messages = 10_000_000_000;
    now.stats.engine.waiting_bytes = 1023 << 20;
    now.stats.engine.replay_bytes = 1023 << 30;
    now.deepest.queues[0].name = "a-name-that-is-longer-than-any-column-is-wide".to_owned();
    now.segments = (1..=1000)
        .map(|number| Segment { number, disk_size: 100, live_cost: 1 + number / 10 })
        .collect();
    for (width, height) in [(80, 24), (200, 60), (60, 18)] {
        let lines = lines(&look(None, &now), ScreenSize { width, height });
        assert_eq!(lines.len(), height - 1, "{width} x {height}");
        for line in &lines {
            assert!(line.chars().count() <= width, "{line}");
        }
        let bars = lines.last().expect("a line");
        assert!(bars.starts_with('▁') && bars.ends_with('█'), "{bars}");
        assert!(bars.chars().count() > width / 2, "{bars}");
        // The numbers are whole; only names and headings give way.
        let head = &lines[1..7];
        assert!(width < 80 || !head.iter().any(|line| line.contains('…')), "{head:?}");
    }
}

#[test]
fn after_a_restart_rates_are_since_the_start() {
    let (before, now) = (snapshot(100), snapshot(2));
    let restarted = lines(&look(Some(&before), &now), SCREEN);
    assert_eq!(restarted, lines(&look(None, &now), SCREEN));
    assert!(restarted[0].contains("runs for 2 s; since its start"), "{}", restarted[0]);
    assert!(restarted[1].contains("posted 1 200/s"), "{}", restarted[1]);
}

#[test]
fn what_is_wrong_stands_on_top_and_takes_no_row_more() {
    let mut now = snapshot(5);
    now.stats.state = "read only".to_owned();
    now.stats.because = Some("sync: EIO".to_owned());
    let sick = lines(&look(None, &now), SCREEN);
    assert!(sick[0].ends_with(" read only"), "{}", sick[0]);
    assert_eq!((sick[1].as_str(), sick.len()), ("sync: EIO", 23));

    let trouble = Some("cannot reach it; trying again");
    let lost = lines(&Look { trouble, ..look(None, &now) }, SCREEN);
    assert!(lost[0].ends_with(" no answer"), "{}", lost[0]);
    assert_eq!((lost[1].as_str(), lost.len()), ("cannot reach it; trying again", 23));
}

#[test]
fn names_cannot_move_the_cursor_and_damage_is_named() {
    let mut now = snapshot(5);
    now.deepest.queues[0].project = Some("a\u{1b}[2J".to_owned());
    now.oldest.queues[2].error = Some("damage in 17.idx".to_owned());
    let lines = lines(&look(None, &now), SCREEN);
    assert!(lines.iter().all(|line| !line.contains('\u{1b}')), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("a?[2J/orders")), "{lines:?}");
    assert!(lines.iter().any(|line| line.ends_with("   damaged")), "{lines:?}");
}

#[test]
fn colours_do_not_change_what_fits() {
    let now = snapshot(5);
    let painted = render(&look(None, &now), SCREEN, &|tone, text| format!("<{tone:?}>{text}</>"));
    assert!(painted[0].ends_with("<Good>up</>"), "{}", painted[0]);
    assert_eq!(painted.last().expect("a line"), "<Warning>·▁</><Good>██</>");
}
