//! Subscriptions: pages read from the store on demand; a live notification only wakes.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, Stream, StreamExt};

use crate::commit::{ChainCheck, Recorded};
use crate::name::StreamName;
use crate::port::ReadError;

/// Most commits of one page.
pub(crate) const PAGE_COMMITS: usize = 512;
/// A page ends with the commit that takes it past this many payload bytes.
pub(crate) const PAGE_BYTES: usize = 4 << 20;

/// Which commits a subscriber wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Those of all streams.
    All,
    /// Those of all streams of a category. A text that cannot be a category matches none.
    Category(String),
    /// Those of one stream.
    Stream(StreamName),
}

impl Filter {
    /// Whether a commit of `stream` is wanted.
    pub fn matches(&self, stream: &StreamName) -> bool {
        match self {
            Self::All => true,
            Self::Category(category) => category == stream.category(),
            Self::Stream(name) => name == stream,
        }
    }
}

/// What a subscriber receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The next commit.
    Commit(Recorded),
    /// All matching commits up to this position (of the whole log) have been delivered. Sent once
    /// each time the live edge is reached: at first, and again after further commits.
    CaughtUp(u64),
    /// Something stands on a stream's place that is no commit. Only that stream is spoilt: what follows on others can be trusted. A subscription to that very stream ends
    /// with `Err(Corrupt)` instead.
    Damaged(Damage),
}

/// Something in the store that is no commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The stream on whose place it stands.
    pub stream: StreamName,
    /// Its position.
    pub position: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// Matching commits in order, without gap or repetition.
///
/// An `Err(Unavailable)` is not the end: the next call goes on where it was. After `Err(Corrupt)`
/// the subscription ends. `None` says that it has ended, for instance because the log was closed.
pub struct Subscription(BoxStream<'static, Result<Delivery, ReadError>>);

impl Subscription {
    /// A subscription that delivers what `deliveries` yields; for adapters.
    pub fn from_stream(
        deliveries: impl Stream<Item = Result<Delivery, ReadError>> + Send + 'static,
    ) -> Self {
        Self(deliveries.boxed())
    }

    /// Waits for the next delivery. Dropping the future loses nothing, so it may stand in `select!`.
    pub async fn next(&mut self) -> Option<Result<Delivery, ReadError>> {
        self.0.next().await
    }

    /// Waits for the next commit, passing over the news of having caught up.
    pub async fn next_commit(&mut self) -> Option<Result<Recorded, ReadError>> {
        loop {
            match self.next().await? {
                Ok(Delivery::Commit(commit)) => return Some(Ok(commit)),
                Ok(Delivery::CaughtUp(_)) => {}
                Ok(Delivery::Damaged(damage)) => {
                    let reason = damage.reason;
                    return Some(Err(ReadError::Corrupt { reason }));
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl Stream for Subscription {
    type Item = Result<Delivery, ReadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(context)
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Subscription")
    }
}

/// A bounded piece of the log as a filter sees it.
pub(crate) struct Page {
    /// The matching commits, in order.
    pub(crate) commits: Vec<Recorded>,
    /// What matches and is no commit, in order.
    pub(crate) damaged: Vec<Damage>,
    /// Every matching commit up to this position is in this page or before it.
    pub(crate) through: u64,
    /// Nothing lay beyond `through` when the store was looked at.
    pub(crate) at_edge: bool,
}

/// What an adapter gives so that [`paged`] can make subscriptions of it.
#[async_trait]
pub(crate) trait Pages: Send + 'static {
    /// The page after a position; `None` when the log is closed. From this call on, `changed` must
    /// notice what is stored.
    async fn page(&mut self, filter: &Filter, after: u64) -> Option<Result<Page, ReadError>>;

    /// Returns `true` when something may have been stored since the last call of `page`, `false`
    /// when the log is closed.
    async fn changed(&mut self) -> bool;
}

/// The state of a subscription between two deliveries.
struct Pager<P> {
    pages: P,
    filter: Filter,
    chain: Option<ChainCheck>,
    after: u64,
    buffer: VecDeque<Recorded>,
    damaged: VecDeque<Damage>,
    at_edge: bool,
    announced: bool,
    ended: bool,
}

/// Makes a subscription of pages.
pub(crate) fn paged(pages: impl Pages, filter: Filter, after: u64) -> Subscription {
    let chain = matches!(filter, Filter::Stream(_)).then(|| ChainCheck::starting_after(after));
    let first = Pager {
        pages,
        filter,
        chain,
        after,
        buffer: VecDeque::new(),
        damaged: VecDeque::new(),
        at_edge: false,
        announced: false,
        ended: false,
    };
    Subscription::from_stream(stream::unfold(first, |mut pager| async move {
        let delivery = pager.next().await?;
        Some((delivery, pager))
    }))
}

impl<P: Pages> Pager<P> {
    async fn next(&mut self) -> Option<Result<Delivery, ReadError>> {
        loop {
            let next = self.buffer.front().map_or(u64::MAX, |it| it.position);
            if let Some(damage) = self.damaged.pop_front_if(|it| it.position < next) {
                return Some(self.tell(damage));
            }
            if let Some(commit) = self.buffer.pop_front() {
                return Some(self.deliver(commit));
            }
            if self.ended {
                return None;
            }
            if self.at_edge {
                if !self.announced {
                    self.announced = true;
                    return Some(Ok(Delivery::CaughtUp(self.after)));
                }
                if !self.pages.changed().await {
                    return None;
                }
            }
            match self.pages.page(&self.filter, self.after).await? {
                Ok(page) => {
                    self.buffer = page.commits.into();
                    self.damaged = page.damaged.into();
                    self.after = page.through.max(self.after);
                    self.at_edge = page.at_edge;
                }
                Err(error) => return Some(Err(self.failed(error))),
            }
        }
    }

    fn deliver(&mut self, commit: Recorded) -> Result<Delivery, ReadError> {
        if let Some(chain) = &mut self.chain
            && let Err(error) = chain.follow(&commit)
        {
            return Err(self.failed(error));
        }
        self.announced = false;
        Ok(Delivery::Commit(commit))
    }

    fn tell(&mut self, damage: Damage) -> Result<Delivery, ReadError> {
        if self.chain.is_some() {
            let reason = damage.reason;
            return Err(self.failed(ReadError::Corrupt { reason }));
        }
        self.announced = false;
        Ok(Delivery::Damaged(damage))
    }

    /// Ends the subscription where nothing that follows can be trusted.
    fn failed(&mut self, error: ReadError) -> ReadError {
        if matches!(error, ReadError::Corrupt { .. }) {
            self.ended = true;
            self.buffer.clear();
            self.damaged.clear();
        }
        error
    }
}
