//! Paths: which resource one names, and which methods that takes. Knows no handlers.

use hyper::Method;
use memchr::memchr;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// A resource. Names and ids are what the path says, unchecked, and may be empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<'a> {
    /// `/`
    Versions,
    /// `/v1/`
    Home,
    /// `/v1/health`
    Health,
    /// `/v1/queues`
    Queues,
    /// `/v1/queues/{queue}`
    Queue(&'a str),
    /// `/v1/queues/{queue}/metadata`
    Metadata(&'a str),
    /// `/v1/queues/{queue}/stats`
    Stats(&'a str),
    /// `/v1/queues/{queue}/messages`
    Messages(&'a str),
    /// `/v1/queues/{queue}/messages/{message}`
    Message(&'a str, &'a str),
    /// `/v1/queues/{queue}/claims`
    Claims(&'a str),
    /// `/v1/queues/{queue}/claims/{claim}`
    Claim(&'a str, &'a str),
}

/// A path as routes are found by: an escaped slash is a slash. What is not UTF-8 becomes a character
/// that no name and no id has.
pub fn decode(path: &str) -> Cow<'_, str> {
    if memchr(b'%', path.as_bytes()).is_none() {
        return Cow::Borrowed(path);
    }
    percent_decode_str(path).decode_utf8_lossy()
}

impl<'a> Route<'a> {
    /// The resource a decoded path names. No slash is added, dropped or folded.
    pub fn of(path: &'a str) -> Option<Route<'a>> {
        if path == "/" {
            return Some(Route::Versions);
        }
        let rest = path.strip_prefix("/v1/")?;
        let Some(rest) = rest.strip_prefix("queues/") else {
            return match rest {
                "" => Some(Route::Home),
                "health" => Some(Route::Health),
                "queues" => Some(Route::Queues),
                _ => None,
            };
        };
        let Some((queue, rest)) = cut(rest) else { return Some(Route::Queue(rest)) };
        match cut(rest) {
            None => match rest {
                "metadata" => Some(Route::Metadata(queue)),
                "stats" => Some(Route::Stats(queue)),
                "messages" => Some(Route::Messages(queue)),
                "claims" => Some(Route::Claims(queue)),
                _ => None,
            },
            Some((_, id)) if cut(id).is_some() => None,
            Some(("messages", id)) => Some(Route::Message(queue, id)),
            Some(("claims", id)) => Some(Route::Claim(queue, id)),
            Some(_) => None,
        }
    }

    /// The name of the queue the route belongs to.
    pub fn queue(&self) -> Option<&'a str> {
        match *self {
            Route::Versions | Route::Home | Route::Health | Route::Queues => None,
            Route::Queue(queue)
            | Route::Metadata(queue)
            | Route::Stats(queue)
            | Route::Messages(queue)
            | Route::Message(queue, _)
            | Route::Claims(queue)
            | Route::Claim(queue, _) => Some(queue),
        }
    }

    /// The route's name in metrics and logs.
    pub fn label(&self) -> &'static str {
        match self {
            Route::Versions => "versions",
            Route::Home => "home",
            Route::Health => "health",
            Route::Queues => "queues",
            Route::Queue(_) => "queue",
            Route::Metadata(_) => "metadata",
            Route::Stats(_) => "stats",
            Route::Messages(_) => "messages",
            Route::Message(..) => "message",
            Route::Claims(_) => "claims",
            Route::Claim(..) => "claim",
        }
    }

    /// The methods the resource takes.
    pub fn methods(&self) -> &'static [&'static str] {
        match self {
            Route::Versions | Route::Home | Route::Queues | Route::Stats(_) => &["GET", "OPTIONS"],
            Route::Health => &["GET", "HEAD", "OPTIONS"],
            Route::Queue(_) => &["PUT", "GET", "HEAD", "DELETE", "OPTIONS"],
            Route::Metadata(_) => &["GET", "PUT", "OPTIONS"],
            Route::Messages(_) => &["POST", "GET", "DELETE", "OPTIONS"],
            Route::Message(..) => &["GET", "DELETE", "OPTIONS"],
            Route::Claims(_) => &["POST", "OPTIONS"],
            Route::Claim(..) => &["GET", "PATCH", "DELETE", "OPTIONS"],
        }
    }

    /// Whether the resource takes this method.
    pub fn allows(&self, method: &Method) -> bool {
        self.methods().contains(&method.as_str())
    }
}

/// What is before the first slash, and what is behind it.
fn cut(path: &str) -> Option<(&str, &str)> {
    let slash = memchr(b'/', path.as_bytes())?;
    Some((&path[..slash], &path[slash + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_name_resources() {
        for (path, route) in [
            ("/", Some(Route::Versions)),
            ("/v1", None),
            ("/v1/", Some(Route::Home)),
            ("/v1//", None),
            ("//", None),
            ("", None),
            ("*", None),
            ("/v1/health", Some(Route::Health)),
            ("/v1/health/", None),
            ("/v1/ping", None),
            ("/v3/", None),
            ("/V1/queues", None),
            ("/v1/Queues", None),
            ("/v1/queues", Some(Route::Queues)),
            ("/v1/queues/", Some(Route::Queue(""))),
            ("/v1/queues/q", Some(Route::Queue("q"))),
            ("/v1/queues/q/", None),
            ("/v1/queues/q/nope", None),
            ("/v1/480924/queues/", None),
            ("/v1/queues/q/metadata", Some(Route::Metadata("q"))),
            ("/v1/queues/q/metadata/", None),
            ("/v1/queues/q/stats", Some(Route::Stats("q"))),
            ("/v1/queues/q/messages", Some(Route::Messages("q"))),
            ("/v1/queues/q/messages/", Some(Route::Message("q", ""))),
            ("/v1/queues/q/messages/m", Some(Route::Message("q", "m"))),
            ("/v1/queues/q/messages/m/", None),
            ("/v1/queues/q/claims", Some(Route::Claims("q"))),
            ("/v1/queues/q/claims/", Some(Route::Claim("q", ""))),
            ("/v1/queues/q/claims/k", Some(Route::Claim("q", "k"))),
            ("/v1/queues/q/claims//", None),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }

    #[test]
    fn escapes_are_resolved_before_routing() {
        assert_eq!(Route::of(&decode("/v1/queues/a%2Eb")), Some(Route::Queue("a.b")));
        assert_eq!(Route::of(&decode("/v1/queues/a%2Fb")), None);
        assert_eq!(Route::of(&decode("/v1/queues/a%0A")), Some(Route::Queue("a\n")));
        assert_eq!(Route::of(&decode("/v1/queues/a+b")), Some(Route::Queue("a+b")));
        assert_eq!(Route::of(&decode("/v1/queues/%ff")), Some(Route::Queue("\u{fffd}")));
    }

    #[test]
    fn methods_are_those_allowed() {
        let route = Route::Queue("q");
        assert!(route.allows(&Method::PUT));
        assert!(route.allows(&Method::OPTIONS));
        assert!(!route.allows(&Method::POST));
        assert!(!Route::Stats("q").allows(&Method::HEAD));
    }

    proptest! {
        #[test]
        fn any_path_is_routed_without_panic(path in "/v1(/(queues|messages|claims|[a-z%/]{0,3})){0,6}") {
            let decoded = decode(&path);
            let route = Route::of(&decoded);
            prop_assert!(route.is_none_or(|route| !route.label().is_empty()));
        }
    }
}
