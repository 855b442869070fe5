//! An answer that is locked up until the log has passed what it depends on. Waited for by a thread
//! or awaited. Knows nothing of what the answer is.

use crate::domain::{Durability, Lsn};
use crate::error::Result;
use crate::log::watermark::{Mark, Watermarks};
use crate::sync::Arc;
use crate::sync::thread::{self, Thread};
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Wake, Waker};

/// An answer that may be told once the log is as durable as it has to be.
///
/// A `Receipt` is a future; [`Receipt::wait`] is for threads. Dropping it abandons the answer, not
/// the work: what was appended stays in the log.
#[derive(Debug)]
#[must_use = "the work is done, but nobody learns whether it lasts"]
pub struct Receipt<T> {
    gate: Option<Gate>,
    answer: Option<T>,
    durability: Durability,
}

#[derive(Debug)]
struct Gate {
    watermarks: Arc<Watermarks>,
    mark: Mark,
    lsn: Lsn,
}

impl<T> Receipt<T> {
    /// An answer that waits for nothing.
    pub(crate) fn open(answer: T, durability: Durability) -> Receipt<T> {
        Receipt { gate: None, answer: Some(answer), durability }
    }

    /// An answer that depends on all below `lsn`, to be told in mode `durability`.
    pub(crate) fn at(
        watermarks: &Arc<Watermarks>,
        lsn: Lsn,
        durability: Durability,
        answer: T,
    ) -> Receipt<T> {
        let mark = match durability {
            Durability::Memory => return Receipt::open(answer, durability),
            Durability::Os | Durability::Interval => Mark::Written,
            Durability::Group | Durability::Each => Mark::Durable,
        };
        Receipt::when(watermarks, mark, lsn, durability, answer)
    }

    /// An answer that waits for one watermark.
    pub(crate) fn when(
        watermarks: &Arc<Watermarks>,
        mark: Mark,
        lsn: Lsn,
        durability: Durability,
        answer: T,
    ) -> Receipt<T> {
        let gate = Gate { watermarks: watermarks.clone(), mark, lsn };
        Receipt { gate: Some(gate), answer: Some(answer), durability }
    }

    /// The same receipt for an answer made of this one.
    pub(crate) fn map<U>(self, make: impl FnOnce(T) -> U) -> Receipt<U> {
        Receipt { gate: self.gate, answer: self.answer.map(make), durability: self.durability }
    }

    /// How durable the work is once the answer is there.
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// Blocks until the answer may be told.
    ///
    /// # Errors
    /// `ReadOnly` when the disk failed before that: whether the work lasts is then unknown.
    pub fn wait(self) -> Result<T> {
        struct Unpark(Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut receipt = pin!(self);
        loop {
            match receipt.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(answer) => return answer,
                Poll::Pending => {
                    if let Some(gate) = &receipt.gate {
                        gate.watermarks.before_sleep();
                    }
                    thread::park();
                }
            }
        }
    }
}

// Nothing in a receipt is pinned: the answer moves out as it came.
impl<T> Unpin for Receipt<T> {}

impl<T> Future for Receipt<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        if let Some(gate) = &self.gate {
            match gate.watermarks.poll(gate.mark, gate.lsn, context.waker()) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) => {}
            }
        }
        Poll::Ready(Ok(self.answer.take().expect("a receipt is not polled after its answer")))
    }
}
