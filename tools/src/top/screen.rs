//! The screen: two looks in, lines out, made to the size of a terminal. A pure function; knows no
//! terminal and no server.

use super::rates::{Rates, RouteRates};
use super::snapshot::{Queue, Segment, Snapshot};
use crate::output::{Tone, count, duration, size};

/// How large a screen is, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ScreenSize {
    pub(super) width: usize,
    pub(super) height: usize,
}

/// Smaller ones are taken as this large.
const SIZE_MIN: ScreenSize = ScreenSize { width: 60, height: 18 };
/// Rows that are always there: the seven of the head, three headings with a gap before each, the bar.
const FIXED_ROWS: usize = 14;

/// Rows left for each of the two lists of queues, whatever the lists above them hold.
pub(super) fn queue_rows(height: usize) -> usize {
    let height = height.max(SIZE_MIN.height);
    // The last row stays free, where a terminal would scroll.
    let rows = height - 1 - FIXED_ROWS;
    rows - rows / 2
}

/// What is shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look<'a> {
    pub(super) url: &'a str,
    pub(super) earlier: Option<&'a Snapshot>,
    pub(super) now: &'a Snapshot,
    /// Why there is no newer look.
    pub(super) trouble: Option<&'a str>,
}

/// The lines of a screen. `paint` gives a text the colour of its meaning and has to leave its width as
/// it is.
pub(super) fn render(
    look: &Look<'_>,
    screen: ScreenSize,
    paint: &dyn Fn(Tone, &str) -> String,
) -> Vec<String> {
    let width = screen.width.max(SIZE_MIN.width);
    let queue_rows = queue_rows(screen.height);
    let rates = Rates::between(look.earlier, look.now);
    let page = Page { look, rates: &rates, width, paint };
    let mut lines = vec![page.title()];
    lines.extend(page.trouble());
    lines.extend(page.summary());
    let list_rows = screen.height.max(SIZE_MIN.height) - 1 - FIXED_ROWS;
    let route_rows = list_rows - queue_rows - page.trouble().map_or(0, |_| 1);
    lines.push(String::new());
    lines.extend(page.routes(route_rows));
    lines.push(String::new());
    lines.extend(page.queues(queue_rows));
    lines.push(String::new());
    lines.extend(page.segments());
    lines
}

struct Page<'a> {
    look: &'a Look<'a>,
    rates: &'a Rates,
    width: usize,
    paint: &'a dyn Fn(Tone, &str) -> String,
}

impl Page<'_> {
    fn heading(&self, text: &str) -> String {
        (self.paint)(Tone::Heading, &fit(text, self.width))
    }

    /// Which server, and how it is.
    fn title(&self) -> String {
        let stats = &self.look.now.stats;
        let (word, tone) = match (self.look.trouble, stats.state.as_str()) {
            (Some(_), _) => ("no answer", Tone::Bad),
            (None, "up") => ("up", Tone::Good),
            (None, "read only") => ("read only", Tone::Bad),
            (None, state) => (state, Tone::Warning),
        };
        let over = match self.rates.since_start {
            true => "since its start".to_owned(),
            false => format!("over {}", duration(self.rates.elapsed_ms)),
        };
        let (version, uptime) = (&stats.version, duration(stats.uptime_ms));
        let text = format!("marconi {version} at {}, runs for {uptime}; {over}", self.look.url);
        let word = clean(word);
        let room = self.width.saturating_sub(word.chars().count() + 1);
        format!("{} {}", (self.paint)(Tone::Heading, &pad(&text, room)), (self.paint)(tone, &word))
    }

    /// Why it is not well, when it is not.
    fn trouble(&self) -> Option<String> {
        let stats = &self.look.now.stats;
        let why = self.look.trouble.or(stats.because.as_deref())?;
        Some((self.paint)(Tone::Bad, &fit(why, self.width)))
    }

    fn summary(&self) -> [String; 6] {
        let (rates, stats) = (self.rates, &self.look.now.stats);
        let (engine, process) = (&stats.engine, &stats.process);
        let memory = process.memory_resident_bytes.map_or("–".to_owned(), size);
        let compaction = &self.look.now.compaction;
        let compaction = match compaction.running {
            true => format!("runs at {}/s", size(whole(rates.compacted_bytes_per_s))),
            false => format!("would free {}", size(compaction.gain_bytes)),
        };
        let frames =
            rates.frames_per_commit.map_or("–".to_owned(), |count| format!("{count:.1}"));
        [
            format!(
                "messages  posted {}/s, claimed {}/s, deleted {}/s, expired {}/s",
                rate(rates.posted_per_s),
                rate(rates.claimed_per_s),
                rate(rates.deleted_per_s),
                rate(rates.expired_per_s),
            ),
            format!(
                "store     {}, {}, {}",
                some(engine.queues, "queue"),
                some(engine.live_messages, "message"),
                some(engine.claims, "claim"),
            ),
            format!(
                "requests  {}/s, {}, {} in flight; memory {memory}",
                rate(rates.requests_per_s),
                some(process.connections_open, "connection"),
                size(process.in_flight_bytes),
            ),
            format!(
                "commits   {}/s of {frames} frames; sync p50 {}, p99 {}",
                rate(rates.commits_per_s),
                time(rates.sync_p50_us),
                time(rates.sync_p99_us),
            ),
            format!(
                "log       {}/s, {} waiting; compaction {compaction}",
                size(whole(rates.log_bytes_per_s)),
                size(engine.waiting_bytes),
            ),
            format!(
                "restart   would read {} after a crash; checkpoint {} ago",
                size(engine.replay_bytes),
                duration(engine.checkpoint_age_ms),
            ),
        ]
        .map(|line| fit(&line, self.width))
    }

    /// The busiest routes.
    fn routes(&self, rows: usize) -> Vec<String> {
        let name_width = self.width.min(100) - 57;
        let row = |name: &str, cells: [&str; 6]| {
            let [requests, client, server, p50, p99, total] = cells;
            format!(
                "{} {requests:>10} {client:>7} {server:>7} {p50:>8} {p99:>8} {total:>11}",
                pad(name, name_width)
            )
        };
        let one = |route: &RouteRates| {
            row(
                &format!("{} {}", route.method, route.route),
                [
                    &rate(route.requests_per_s),
                    &rate(route.client_errors_per_s),
                    &rate(route.server_errors_per_s),
                    &time(route.p50_us),
                    &time(route.p99_us),
                    &count(route.total),
                ],
            )
        };
        let titles = ["requests/s", "4xx/s", "5xx/s", "p50", "p99", "since start"];
        let mut lines = vec![self.heading(&row("ROUTE", titles))];
        for route in self.rates.routes.iter().take(rows) {
            let line = fit(&one(route), self.width);
            let is_failing = route.server_errors_per_s > 0.0;
            lines.push(if is_failing { (self.paint)(Tone::Bad, &line) } else { line });
        }
        lines.resize(rows + 1, String::new());
        lines
    }

    /// The deepest queues, and beside them those with the oldest messages.
    fn queues(&self, rows: usize) -> Vec<String> {
        let half = (self.width - 2) / 2;
        let depth_row = |name: &str, free: &str, claimed: &str| {
            format!("{} {free:>9} {claimed:>8}", pad(name, half - 19))
        };
        let age_row = |name: &str, age: &str| format!("{} {age:>11}", pad(name, half - 12));
        let by_depth =
            |queue: &Queue| depth_row(&label(queue), &count(queue.free), &count(queue.claimed));
        let by_age = |queue: &Queue| {
            let age = match (&queue.error, queue.oldest_age_ms) {
                (Some(_), _) => "damaged".to_owned(),
                (None, age) => age.map_or("–".to_owned(), duration),
            };
            age_row(&label(queue), &age)
        };
        let total = format!("DEEPEST of {}", some(self.look.now.deepest.total, "queue"));
        let titles = [depth_row(&total, "free", "claimed"), age_row("OLDEST", "message")];
        let mut lines = vec![self.heading(&titles.join("  "))];
        let mut deepest = self.look.now.deepest.queues.iter();
        let mut oldest = self
            .look
            .now
            .oldest
            .queues
            .iter()
            .filter(|queue| queue.oldest_age_ms.is_some() || queue.error.is_some());
        for _ in 0..rows {
            let left = deepest.next().map(by_depth).unwrap_or_default();
            let right = oldest.next().map(by_age).unwrap_or_default();
            lines.push(format!("{}  {right}", pad(&left, half)).trim_end().to_owned());
        }
        lines
    }

    /// How much of each file of the log lives.
    fn segments(&self) -> [String; 2] {
        let engine = &self.look.now.stats.engine;
        let (disk, live) = (engine.segments_disk_bytes, engine.segments_live_bytes);
        let title = format!(
            "SEGMENTS by live share: {}, {}, {} live ({} %)",
            some(self.look.now.segments.len() as u64, "file"),
            size(disk),
            size(live),
            whole(share(live, disk) * 100.0),
        );
        let mut bars = String::new();
        for piece in squeeze(&self.look.now.segments, self.width)
            .chunk_by(|one, next| (*one < 0.5) == (*next < 0.5))
        {
            let text: String = piece.iter().map(|share| block(*share)).collect();
            let tone = if piece[0] < 0.5 { Tone::Warning } else { Tone::Good };
            bars.push_str(&(self.paint)(tone, &text));
        }
        [self.heading(&title), bars]
    }
}

/// The live share of the segments in order; neighbours together where there are more than `width`.
fn squeeze(segments: &[Segment], width: usize) -> Vec<f64> {
    let at_once = segments.len().div_ceil(width).max(1);
    let sum = |piece: &[Segment], of: fn(&Segment) -> u64| piece.iter().map(of).sum::<u64>();
    let pieces = segments.chunks(at_once);
    let one = |piece: &[Segment]| {
        share(sum(piece, |segment| segment.live_cost), sum(piece, |segment| segment.disk_size))
    };
    pieces.map(one).collect()
}

fn share(part: u64, whole: u64) -> f64 {
    (part as f64 / whole.max(1) as f64).clamp(0.0, 1.0)
}

/// A share as the height of a block; a dot where nothing lives.
fn block(share: f64) -> char {
    const BLOCKS: [char; 9] = ['·', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    BLOCKS[(share * 8.0).ceil() as usize]
}

fn label(queue: &Queue) -> String {
    match &queue.project {
        Some(project) => format!("{project}/{}", queue.name),
        None => queue.name.clone(),
    }
}

/// Text without what would move a terminal's cursor.
fn clean(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

/// Text of at most this width.
fn fit(text: &str, width: usize) -> String {
    let text = clean(text);
    if text.chars().count() <= width {
        return text;
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// Text of exactly this width.
fn pad(text: &str, width: usize) -> String {
    let text = fit(text, width);
    let missing = width.saturating_sub(text.chars().count());
    text + &" ".repeat(missing)
}

fn some(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

fn whole(value: f64) -> u64 {
    value.round() as u64
}

/// How often in a second: one decimal below ten.
fn rate(per_s: f64) -> String {
    match per_s {
        0.0 => "0".to_owned(),
        _ if per_s < 9.95 => format!("{per_s:.1}"),
        _ => count(whole(per_s)),
    }
}

/// A short time: `250 µs`, `1.9 ms`, `2.5 s`; a dash where there is none.
fn time(us: Option<f64>) -> String {
    match us {
        None => "–".to_owned(),
        Some(us) if us < 999.5 => format!("{us:.0} µs"),
        Some(us) if us < 99_950.0 => format!("{:.1} ms", us / 1e3),
        Some(us) if us < 999_500.0 => format!("{:.0} ms", us / 1e3),
        Some(us) => format!("{:.1} s", us / 1e6),
    }
}

#[cfg(test)]
mod tests;
