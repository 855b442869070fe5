//! The kinds of frames as people name them. Knows no frame.

use marconi_engine::log::frame::Kind;

/// A kind by the word for what happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum KindName {
    /// A queue was made.
    Create,
    /// A queue's metadata or durability floor was set.
    Change,
    /// A queue was removed.
    Remove,
    /// Messages were posted.
    Post,
    /// Messages were claimed.
    Claim,
    /// A claim starts anew.
    Renew,
    /// A claim was given up.
    Release,
    /// Messages were deleted.
    Delete,
    /// The log goes on after an end that was not clean.
    Resume,
    /// A segment ends.
    End,
    /// A segment in which nothing lived was taken away.
    Retire,
}

impl KindName {
    /// The word on the command line, in text and in JSON.
    pub(crate) fn word(self) -> &'static str {
        match self {
            KindName::Create => "create",
            KindName::Change => "change",
            KindName::Remove => "remove",
            KindName::Post => "post",
            KindName::Claim => "claim",
            KindName::Renew => "renew",
            KindName::Release => "release",
            KindName::Delete => "delete",
            KindName::Resume => "resume",
            KindName::End => "end",
            KindName::Retire => "retire",
        }
    }
}

impl From<Kind> for KindName {
    fn from(kind: Kind) -> KindName {
        match kind {
            Kind::QueueCreated => KindName::Create,
            Kind::QueueChanged => KindName::Change,
            Kind::QueueRemoved => KindName::Remove,
            Kind::Posted | Kind::PostedOne => KindName::Post,
            Kind::Claimed => KindName::Claim,
            Kind::Renewed => KindName::Renew,
            Kind::Released => KindName::Release,
            Kind::Deleted => KindName::Delete,
            Kind::Resumed => KindName::Resume,
            Kind::SegmentEnd => KindName::End,
            Kind::SegmentRetired => KindName::Retire,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn a_kind_is_shown_by_the_word_that_asks_for_it() {
        for kind in Kind::ALL {
            let name = KindName::from(kind);
            assert_eq!(KindName::from_str(name.word(), false), Ok(name));
        }
    }
}
