//! What is measured, and the text all of it is shown in. Knows neither the engine's counters nor who
//! asks for the text.

pub mod engine;
pub mod process;
pub mod requests;

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::registry::Registry;

/// How the name of each metric begins.
pub const PREFIX: &str = "marconi";

/// The content type of the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of a registry as one text.
pub fn text(registry: &Registry) -> String {
    let mut text = String::new();
    encode_registry(&mut text, registry).expect("writing to a string does not fail");
    encode_eof(&mut text).expect("writing to a string does not fail");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::Observer;
    use std::sync::Arc;

    #[test]
    fn the_page_for_operators_names_every_metric() {
        let requests = Arc::new(requests::RequestMetrics::default());
        requests.request_done(&requests::tests::done("messages", "POST", 201));
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register_collector(Box::new(requests::RequestCollector(requests)));
        registry.register_collector(Box::new(engine::EngineCollector::new(engine::tests::sample)));
        let process = process::Process::new(Arc::default());
        let process = process::ProcessCollector::new(move || process.measure(0));
        registry.register_collector(Box::new(process));
        let text = text(&registry);
        let page = include_str!("../../docs/operating.md");
        let names = text.lines().filter_map(|line| line.strip_prefix("# HELP "));
        for name in names.filter_map(|line| line.split(' ').next()) {
            let is_named = [name.to_owned(), format!("{name}_total")]
                .iter()
                .any(|name| page.contains(&format!("`{name}`")));
            assert!(is_named, "docs/operating.md does not name {name}");
        }
    }
}
