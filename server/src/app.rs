//! What every request shares: the store, the limits in force, the memory bodies may take, and who
//! watches. Made once. Knows no routes and no documents.

use crate::api::limits::Limits;
use crate::in_flight::BytesInFlight;
use hyper::header::HeaderValue;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes with which every request id of a start begins.
const ID_START_SIZE: usize = 13;

/// The service: one value behind every connection.
pub struct App<S> {
    store: S,
    limits: RwLock<Arc<Limits>>,
    in_flight: BytesInFlight,
    observer: Arc<dyn Observer>,
    /// What all request ids of this start begin with.
    id_start: [u8; ID_START_SIZE],
    requests: AtomicU64,
}

impl<S> App<S> {
    /// A service over a store. The limits are taken as valid.
    pub fn new(store: S, limits: Limits, observer: Arc<dyn Observer>) -> App<S> {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        App {
            store,
            limits: RwLock::new(Arc::new(limits)),
            in_flight: BytesInFlight::default(),
            observer,
            // The low bits are those that differ.
            id_start: format!("req-{:08x}-", since_epoch.as_millis() & u128::from(u32::MAX))
                .into_bytes()
                .try_into()
                .expect("eight digits and five others"),
            requests: AtomicU64::new(0),
        }
    }

    /// The store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The limits in force; a request takes them once and keeps them.
    pub fn limits(&self) -> Arc<Limits> {
        Arc::clone(&self.limits.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts other limits in force, from the next request on. They are taken as valid.
    pub fn set_limits(&self, limits: Limits) {
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(limits);
    }

    /// The bytes of request bodies held now.
    pub fn in_flight(&self) -> &BytesInFlight {
        &self.in_flight
    }

    /// Who is told of every request.
    pub fn observer(&self) -> &dyn Observer {
        &*self.observer
    }

    /// A new request's id, as its answer has it: unique within this start, and nearly so between starts.
    pub fn next_request_id(&self) -> HeaderValue {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let mut id = [0; ID_START_SIZE + 16];
        id[..ID_START_SIZE].copy_from_slice(&self.id_start);
        let digits = (u64::BITS - number.leading_zeros()).div_ceil(4).max(1) as usize;
        for (place, digit) in (0..digits).rev().zip(&mut id[ID_START_SIZE..]) {
            *digit = b"0123456789abcdef"[(number >> (4 * place)) as usize & 0xf];
        }
        HeaderValue::from_bytes(&id[..ID_START_SIZE + digits]).expect("digits and letters")
    }
}

/// Watches requests: counts, times, logs.
pub trait Observer: Send + Sync {
    /// Called once for each request, when its answer is ready to be sent.
    fn request_done(&self, done: &RequestDone<'_>);
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn request_done(&self, _: &RequestDone<'_>) {}
}

/// A request that was answered.
#[derive(Debug, Clone, Copy)]
pub struct RequestDone<'a> {
    /// The resource's name, or `unknown`.
    pub route: &'static str,
    /// The method.
    pub method: &'a str,
    /// The answer's status.
    pub status: u16,
    /// From the request's head to the answer.
    pub elapsed: Duration,
    /// Size of the request's body, as far as it is known.
    pub bytes_in: u64,
    /// Size of the answer's body.
    pub bytes_out: u64,
    /// The id the answer carries, too.
    pub request_id: &'a str,
    /// The project named.
    pub project: Option<&'a str>,
    /// The queue named.
    pub queue: Option<&'a str>,
    /// Why it failed, when it did: more than the client was told.
    pub error: Option<&'a str>,
}
