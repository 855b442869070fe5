//! The request headers the API gives meaning to: `Accept`, `Client-ID`, `X-Project-Id`,
//! `Content-Type`, `Marconi-Durability`. Pure; knows no routes.

use super::fault::{Fault, Kind};
use hyper::HeaderMap;
use hyper::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use marconi_engine::{ClientId, Durability};
use uuid::Uuid;

/// Asks for a durability, and reports the one reached.
pub const DURABILITY: HeaderName = HeaderName::from_static("marconi-durability");
/// Names the poster.
pub const CLIENT_ID: HeaderName = HeaderName::from_static("client-id");
/// Names the tenant.
pub const PROJECT_ID: HeaderName = HeaderName::from_static("x-project-id");

/// What a request says in these headers; of one that is sent twice, the first. All are found in one look
/// at the headers, where a search for each would cost as much.
#[derive(Debug, Clone, Copy)]
pub struct RequestHeaders<'a> {
    all: &'a HeaderMap,
    content_type: Option<&'a HeaderValue>,
    has_accept: bool,
    client_id: Option<&'a HeaderValue>,
    project: Option<&'a HeaderValue>,
    durability: Option<&'a HeaderValue>,
}

impl<'a> RequestHeaders<'a> {
    /// Looks at the headers of a request; their values are looked at when they are asked for.
    pub fn of(all: &'a HeaderMap) -> RequestHeaders<'a> {
        let mut found = RequestHeaders {
            all,
            content_type: None,
            has_accept: false,
            client_id: None,
            project: None,
            durability: None,
        };
        for (name, value) in all {
            let place = if *name == CONTENT_TYPE {
                &mut found.content_type
            } else if *name == CLIENT_ID {
                &mut found.client_id
            } else if *name == PROJECT_ID {
                &mut found.project
            } else if *name == DURABILITY {
                &mut found.durability
            } else {
                found.has_accept |= *name == ACCEPT;
                continue;
            };
            place.get_or_insert(value);
        }
        found
    }

    /// Refuses a body that claims to be a form.
    pub fn content_type(&self) -> Result<(), Fault> {
        let form = self.content_type.is_some_and(|value| {
            value.as_bytes().eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
        });
        if form && self.all.contains_key(CONTENT_LENGTH) {
            let text = "Content-Type is application/x-www-form-urlencoded; send application/json.";
            return Err(Fault::new(Kind::BadContentType, text));
        }
        Ok(())
    }

    /// Refuses a client that takes no JSON.
    pub fn accept(&self) -> Result<(), Fault> {
        if !self.has_accept {
            return Ok(());
        }
        let refused = || Fault::new(Kind::NotAcceptable, "Accept has to admit application/json.");
        // The most specific range that speaks of JSON decides, and of equals the kindest.
        let mut best: Option<(u8, bool)> = None;
        let mut any = false;
        for value in self.all.get_all(ACCEPT) {
            let value = value.to_str().map_err(|_| refused())?;
            for range in value.split(',').map(str::trim).filter(|range| !range.is_empty()) {
                any = true;
                best = best.max(admits_json(range));
            }
        }
        match best {
            Some((_, true)) => Ok(()),
            None if !any => Ok(()),
            _ => Err(refused()),
        }
    }

    /// The poster, when one is named.
    pub fn client_id(&self) -> Result<Option<ClientId>, Fault> {
        let Some(value) = self.client_id else { return Ok(None) };
        match parse_uuid(value.as_bytes()) {
            Some(id) => Ok(Some(ClientId(id))),
            None => Err(Fault::new(Kind::BadUuid, "Client-ID has to be a UUID.")),
        }
    }

    /// The project, `None` for the global namespace. Its length is not checked here.
    pub fn project(&self) -> Result<Option<&'a str>, Fault> {
        let Some(value) = self.project else { return Ok(None) };
        if value.is_empty() {
            let text = "X-Project-Id is empty; name a project or leave the header out.";
            return Err(Fault::new(Kind::EmptyProject, text));
        }
        match std::str::from_utf8(value.as_bytes()) {
            Ok(project) => Ok(Some(project)),
            Err(_) => Err(Fault::new(Kind::BadQueue, "X-Project-Id has to be UTF-8.")),
        }
    }

    /// The durability asked for, when one is.
    pub fn durability(&self) -> Result<Option<Durability>, Fault> {
        let Some(value) = self.durability else { return Ok(None) };
        match value.to_str().ok().and_then(|text| text.parse().ok()) {
            Some(level) => Ok(Some(level)),
            None => {
                let text = "Marconi-Durability has to be one of memory, os, interval, group, each.";
                Err(Fault::new(Kind::BadHeader, text))
            }
        }
    }
}

/// How specific a media range is, if it covers JSON, and whether it wants it.
fn admits_json(range: &str) -> Option<(u8, bool)> {
    // What nearly every client says.
    if range == "application/json" {
        return Some((2, true));
    }
    let mut parts = range.split(';').map(str::trim);
    let name = parts.next()?;
    let rank = if name == "*/*" || name == "*" {
        0
    } else if name.eq_ignore_ascii_case("application/*") {
        1
    } else if name.eq_ignore_ascii_case("application/json") {
        2
    } else {
        return None;
    };
    let quality = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
    let wanted = quality.and_then(|q| q.trim().parse::<f32>().ok()).is_none_or(|q| q > 0.0);
    Some((rank, wanted))
}

/// The value of a UUID in any of its spellings: bare, with hyphens, in braces, as a URN.
fn parse_uuid(text: &[u8]) -> Option<u128> {
    if let Ok(uuid) = Uuid::try_parse_ascii(text) {
        return Some(uuid.as_u128());
    }
    // Hyphens may stand anywhere, and braces alone.
    let text = text.strip_prefix(b"urn:").unwrap_or(text);
    let text = text.strip_prefix(b"uuid:").unwrap_or(text);
    let start = text.iter().take_while(|letter| **letter == b'{').count();
    let end = text[start..].iter().rev().take_while(|letter| **letter == b'}').count();
    let text = &text[start..text.len() - end];
    // Two halves, since the processor has no integers of 128 bits.
    let mut halves = [0u64; 2];
    let mut digits = 0;
    for letter in text {
        let digit = match letter {
            b'0'..=b'9' => letter - b'0',
            b'a'..=b'f' => letter - b'a' + 10,
            b'A'..=b'F' => letter - b'A' + 10,
            b'-' => continue,
            _ => return None,
        };
        let half = halves.get_mut(digits / 16)?;
        *half = *half << 4 | u64::from(digit);
        digits += 1;
    }
    let [high, low] = halves.map(u128::from);
    (digits == 32).then_some(high << 64 | low)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &'static str, value: &str) -> HeaderMap {
        let value = HeaderValue::from_str(value).expect("a value");
        HeaderMap::from_iter([(HeaderName::from_static(name), value)])
    }

    #[test]
    fn accept_has_to_admit_json() {
        assert!(RequestHeaders::of(&HeaderMap::new()).accept().is_ok());
        for text in [
            "",
            "*/*",
            "application/*",
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "text/html, application/json;q=0.1",
            "application/json;q=0.5,*/*;q=0",
            "text/plain, */*;q=0.1",
        ] {
            assert!(RequestHeaders::of(&one("accept", text)).accept().is_ok(), "{text}");
        }
        for text in [
            "text/plain",
            "application/xml",
            "application/json-home",
            "application/json;q=0",
            "garbage",
            "plain/text",
            "application/json;q=0, */*",
            "application/json; q=0.0",
            "application/vnd.openstack.messaging-v1+json",
        ] {
            assert!(RequestHeaders::of(&one("accept", text)).accept().is_err(), "{text}");
        }
    }

    #[test]
    fn a_client_is_its_value_not_its_spelling() {
        let id = RequestHeaders::of(&one("client-id", "550893e0-2b6e-11e3-835a-5cf9dd723690"))
            .client_id();
        assert!(matches!(id, Ok(Some(_))));
        for text in [
            "550893e02b6e11e3835a5cf9dd723690",
            "550893E0-2B6E-11E3-835A-5CF9DD723690",
            "{550893e0-2b6e-11e3-835a-5cf9dd723690}",
            "urn:uuid:550893e0-2b6e-11e3-835a-5cf9dd723690",
            "55-0893e02b6e11e3835a5cf9dd7236-90",
            "550893e0-2b6e-11e3-835a-5cf9dd723690}",
        ] {
            assert_eq!(RequestHeaders::of(&one("client-id", text)).client_id(), id, "{text}");
        }
        for text in [
            "",
            "0xdeadbeef",
            "550893e0-2b6e-11e3-835a-5cf9dd72369",
            "1234",
            "aa2-bb3",
            "zz",
            "103e09c6-31b7-11e3-86bc-b8ca3ad0f5d81",
            "103e09c6-31b7-11e3-86bc-b8ca3ad0f5d",
        ] {
            assert!(RequestHeaders::of(&one("client-id", text)).client_id().is_err(), "{text}");
        }
    }

    #[test]
    fn projects_and_durability() {
        assert!(RequestHeaders::of(&one("x-project-id", "")).project().is_err());
        assert_eq!(
            RequestHeaders::of(&one("x-project-id", "JAM Project")).project(),
            Ok(Some("JAM Project"))
        );
        assert_eq!(RequestHeaders::of(&HeaderMap::new()).project(), Ok(None));
        assert_eq!(
            RequestHeaders::of(&one("marconi-durability", "os")).durability(),
            Ok(Some(Durability::Os))
        );
        assert!(RequestHeaders::of(&one("marconi-durability", "paper")).durability().is_err());
    }
}
