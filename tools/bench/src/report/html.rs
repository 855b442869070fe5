//! The page: one file, nothing fetched, nothing run; light, dark and on paper. Pure.

use super::plots::Plot;
use super::table::{connections, limit_lines, marked_rate, size, tables, title};
use super::verdict::{LossVerdict, Verdict};
use super::{short, time};
use crate::results::{Cell, CellKey, Mark, Results, marks};
use crate::stats::median;
use std::collections::BTreeSet;
use std::fmt::Write as _;

const STYLE: &str = include_str!("page.css");

/// The whole page.
pub(super) fn page(results: &Results, verdict: &Verdict, plots: &[Plot]) -> String {
    let header = &results.header;
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>Marconi: what each durability mode costs</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <h1>What each durability mode costs</h1>\n\
         <p class=\"about\">{} on {} ({} cores), {}; {}</p>\n",
        escape(&header.program),
        escape(&header.machine.cpu),
        header.machine.cores,
        escape(&header.machine.file_system),
        escape(&header.started),
    );
    verdict_block(&mut out, results, verdict);
    for note in &header.notes {
        let _ = writeln!(out, "<p class=\"note\">{}</p>", escape(note));
    }
    for plot in plots {
        let _ = writeln!(
            out,
            "<figure>\n<h2>{}</h2>\n{}\n<figcaption>{}</figcaption>\n</figure>",
            escape(plot.title),
            plot.svg,
            escape(&plot.caption)
        );
    }
    let mut seen = BTreeSet::new();
    rates(&mut out, results, &mut seen);
    latencies(&mut out, results, &mut seen);
    losses(&mut out, verdict);
    if !seen.is_empty() {
        out += "<h2>Marks</h2>\n<ul>\n";
        for mark in &seen {
            let _ = writeln!(
                out,
                "<li><b class=\"mark\">{}</b> {}</li>",
                mark.letter(),
                mark.meaning()
            );
        }
        out += "</ul>\n";
    }
    how(&mut out, results);
    out += "</body>\n</html>\n";
    out
}

fn verdict_block(out: &mut String, results: &Results, verdict: &Verdict) {
    let _ = write!(
        out,
        "<section class=\"verdict\">\n<p class=\"headline\">{}</p>\n<div class=\"scroll\"><table>\n<thead><tr>\
         <th>mode</th><th>what it promises</th><th>a power cut takes</th><th class=\"n\">posts/s</th>\
         <th class=\"n\">p99</th><th class=\"n\">to group</th><th>choose it when</th></tr></thead>\n<tbody>\n",
        escape(&verdict.headline)
    );
    for mode in &verdict.modes {
        let cut = mode.power_cut.as_ref();
        let class = match cut.map(|cut| cut.messages_max) {
            Some(0) => "good",
            Some(_) => "bad",
            None => "",
        };
        let dash = || "–".to_owned();
        let _ = writeln!(
            out,
            "<tr class=\"{}\"><th scope=\"row\"><i class=\"swatch {0}\"></i>{0}</th><td>{}</td><td class=\"{class}\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>",
            escape(&mode.mode),
            mode.promise,
            cut.map_or_else(dash, LossVerdict::text),
            mode.posts_per_s.map_or_else(dash, short),
            mode.p99_us.map_or_else(dash, time),
            mode.ratio_to_group.map_or_else(dash, |ratio| format!("{ratio:.2}")),
            mode.choose_when,
        );
    }
    out.push_str("</tbody></table></div>\n<p class=\"small\">");
    let p99 = match verdict.modes.iter().any(|mode| mode.p99_is_open) {
        true => "p99 at 70 % of that rate, from when a post was due",
        false => "p99 at that rate",
    };
    let _ = write!(
        out,
        "Posts of {} over {} connections, {p99}.",
        size(verdict.size_bytes),
        verdict.connections
    );
    if let Some(cut) = verdict.modes.iter().find_map(|mode| mode.power_cut.as_ref()) {
        let _ = write!(
            out,
            " Losses were measured by cutting the power of a simulated disk at random moments, at about {} posts/s of \
             4 KiB: in os and memory they end at a checkpoint, every 64 MiB of log or every minute, so that a slower \
             stream loses more seconds of it.",
            short(cut.rate)
        );
    }
    let limits = limit_lines(results);
    if !limits.is_empty() {
        let _ = write!(out, " The machine at best: {}.", escape(&limits.join("; ")));
    }
    out.push_str("</p>\n</section>\n");
}

fn rates(out: &mut String, results: &Results, seen: &mut BTreeSet<Mark>) {
    out.push_str("<h2>All rates</h2>\n<p>Median, and in brackets the slowest and the quickest repetition.</p>\n");
    for (workload, size_bytes) in tables(results) {
        let counts = connections(results, &workload, size_bytes);
        let name = title(results, &workload, size_bytes);
        let _ = write!(
            out,
            "<h3>{}</h3>\n<div class=\"scroll\"><table>\n<thead><tr><th>mode</th>",
            escape(&name)
        );
        for count in &counts {
            let _ = write!(out, "<th class=\"n\">{count} conn</th>");
        }
        out.push_str("</tr></thead>\n<tbody>\n");
        for mode in results.modes() {
            let _ = write!(out, "<tr><th scope=\"row\">{}</th>", escape(&mode));
            for count in &counts {
                let key = CellKey {
                    workload: workload.clone(),
                    open: false,
                    size_bytes,
                    connections: *count,
                    mode: mode.clone(),
                };
                let (text, found) = marked_rate(results, &key);
                seen.extend(found);
                let _ = write!(out, "<td class=\"n\">{}</td>", escape(&text));
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody></table></div>\n");
    }
}

fn latencies(out: &mut String, results: &Results, seen: &mut BTreeSet<Mark>) {
    let by_cell = results.by_cell();
    let open: Vec<(&CellKey, Vec<&Cell>)> =
        by_cell.into_iter().filter(|(key, _)| key.open).collect();
    if open.is_empty() {
        return;
    }
    out.push_str(
        "<h2>All latencies</h2>\n<p>Of a post at a fixed rate, from when it was due; medians over the repetitions.</p>\n\
         <div class=\"scroll\"><table>\n<thead><tr><th>mode</th><th class=\"n\">conn</th><th class=\"n\">posts/s</th>\
         <th class=\"n\">p50</th><th class=\"n\">p90</th><th class=\"n\">p99</th><th class=\"n\">p99.9</th>\
         <th class=\"n\">max</th><th>marks</th></tr></thead>\n<tbody>\n",
    );
    for (key, cells) in open {
        let middle = |figure: fn(&Cell) -> f64| {
            median(&cells.iter().map(|cell| figure(cell)).collect::<Vec<_>>())
        };
        let found = marks(&cells);
        let _ = write!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td><td class=\"n\">{}</td>",
            escape(&key.mode),
            key.connections,
            short(middle(|cell| cell.offered_per_s.unwrap_or(0.0)))
        );
        for figure in [
            (|cell: &Cell| cell.latency_us.p50) as fn(&Cell) -> f64,
            |cell| cell.latency_us.p90,
            |cell| cell.latency_us.p99,
            |cell| cell.latency_us.p999,
            |cell| cell.latency_us.max,
        ] {
            let _ = write!(out, "<td class=\"n\">{}</td>", time(middle(figure)));
        }
        let letters: String = found.iter().map(|mark| mark.letter()).collect();
        let _ = writeln!(out, "<td>{letters}</td></tr>");
        seen.extend(found);
    }
    out.push_str("</tbody></table></div>\n");
}

fn losses(out: &mut String, verdict: &Verdict) {
    let rows: Vec<(&str, &str, &LossVerdict)> = verdict
        .modes
        .iter()
        .flat_map(|mode| {
            let power = mode.power_cut.as_ref().map(|lost| (mode.mode.as_str(), "power cut", lost));
            let crash = mode.process_crash.as_ref();
            power
                .into_iter()
                .chain(crash.map(|lost| (mode.mode.as_str(), "crash of the process", lost)))
        })
        .collect();
    if rows.is_empty() {
        return;
    }
    out.push_str(
        "<h2>All losses</h2>\n<div class=\"scroll\"><table>\n<thead><tr><th>mode</th><th>event</th><th class=\"n\">cuts</th>\
         <th class=\"n\">messages, median</th><th class=\"n\">most</th><th class=\"n\">time, median</th>\
         <th class=\"n\">longest</th></tr></thead>\n<tbody>\n",
    );
    for (mode, event, lost) in rows {
        let more = if lost.bounded_by_run { " or more" } else { "" };
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\">{}</th><td>{event}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}{more}</td><td class=\"n\">{}</td><td class=\"n\">{}{more}</td></tr>",
            escape(mode),
            lost.count,
            short(lost.messages_median),
            short(lost.messages_max as f64),
            time(lost.ms_median * 1e3),
            time(lost.ms_max * 1e3),
        );
    }
    out.push_str("</tbody></table></div>\n");
}

fn how(out: &mut String, results: &Results) {
    let header = &results.header;
    let machine = &header.machine;
    let _ = write!(
        out,
        "<h2>How it was measured</h2>\n<ul>\n<li>Command: <code>{}</code></li>\n<li>Commit: <code>{}</code></li>\n\
         <li>Measured: {}, {} repetitions in turns with all other cells, each {:.2} s after {:.2} s of warm-up</li>\n\
         <li>Machine: {}, {} cores, {:.1} GiB, {}, {}</li>\n\
         <li>Client and server share the machine. The client is one thread; a cell in which it had no CPU left is \
         marked.</li>\n<li>All figures: <code>results.jsonl</code> beside this page.</li>\n</ul>\n",
        escape(&header.command),
        escape(&header.commit),
        escape(&header.target),
        header.rounds,
        header.measured_s,
        header.warm_up_s,
        escape(&machine.cpu),
        machine.cores,
        machine.memory_bytes as f64 / f64::from(1u32 << 30),
        escape(&machine.kernel),
        escape(&machine.file_system),
    );
}

/// Text that is no markup.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::sample;

    fn sample_page() -> String {
        let results = sample();
        let verdict = Verdict::of(&results);
        page(&results, &verdict, &super::super::plots::all(&results, &verdict).expect("draws"))
    }

    #[test]
    fn the_page_stands_alone() {
        let page = sample_page();
        for word in ["<script", "src=", "href=", "url(", "@import", "<link"] {
            assert!(!page.contains(word), "{word}");
        }
        // The name of SVG's own namespace is no request.
        let rest = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!rest.contains("http://") && !rest.contains("https://"));
        assert!(page.contains("prefers-color-scheme") && page.contains("@media print"));
        assert_eq!(page.matches("<svg").count(), 3);
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    }

    #[test]
    fn the_verdict_comes_first_and_foreign_text_is_no_markup() {
        let page = sample_page();
        let verdict = page.find("Choose group").expect("a headline");
        assert!(verdict < page.find("<svg").expect("plots"));
        assert!(page.contains("A &lt;CPU&gt; &amp; more"), "the machine's name");
        assert!(page.contains("up to 1.00 s (4.00k messages)"));
        for tag in ["table", "thead", "tbody", "tr", "section", "figure", "div", "ul"] {
            let opened = page.matches(&format!("<{tag}>")).count()
                + page.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }
}
