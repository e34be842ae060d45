//! No more messages than a quota allows.
mod bucket;
mod clock;
mod cost;
mod counts;
mod excess;
mod future;
mod gate;
mod http;
mod keyed;
mod layer;
mod quota;
mod service;
mod table;
mod transport;

pub use self::{
    cost::{Cost, PerByte, PerMessage},
    counts::RateLimitCounts,
    excess::{Closes, Stays},
    future::{HttpResponseFuture, ResponseFuture},
    http::{HttpRateLimit, HttpRateLimitLayer, too_many_requests},
    keyed::KeyedRateLimiter,
    layer::RateLimitLayer,
    quota::Quota,
    service::{RateLimitService, RateLimitServiceLayer},
    transport::RateLimit,
};
