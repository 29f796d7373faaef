//! Several futures side by side, without a task for each.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
    time::Duration,
};

use tokio::task::JoinSet;

/// Runs all side by side and gives the results in their order.
pub(crate) async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut results: Vec<Option<F::Output>> = running.iter().map(|_| None).collect();
    poll_fn(|context| {
        let mut waits = false;
        for (future, result) in running.iter_mut().zip(&mut results) {
            if result.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(output) => *result = Some(output),
                    Poll::Pending => waits = true,
                }
            }
        }
        if waits {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
    results.into_iter().flatten().collect()
}

/// Starts the attempts one after the other, each `stagger` after the one before or when that has
/// failed, and gives the first that succeeds; else the last error, or `None` of no attempts.
/// What still runs then is dropped.
pub(crate) async fn first_answer<T, E, F>(
    attempts: impl IntoIterator<Item = F>,
    stagger: Duration,
) -> Option<Result<T, E>>
where
    T: Send + 'static,
    E: Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
{
    let mut attempts = attempts.into_iter();
    let mut running = JoinSet::new();
    running.spawn(attempts.next()?);
    let mut last_error = None;
    let mut more = true;
    loop {
        tokio::select! {
            ended = running.join_next(), if !running.is_empty() => match ended {
                Some(Ok(Ok(answer))) => return Some(Ok(answer)),
                Some(Ok(Err(error))) => last_error = Some(Err(error)),
                // Only a panic in an attempt: the others go on.
                Some(Err(_)) | None => {}
            },
            () = tokio::time::sleep(stagger), if more => {}
            else => return last_error,
        }
        match attempts.next() {
            Some(attempt) => {
                running.spawn(attempt);
            }
            None => more = false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    type Attempt = Pin<Box<dyn Future<Output = Result<i32, &'static str>> + Send>>;

    #[tokio::test]
    async fn results_keep_their_order() {
        let futures = [3, 1, 2].map(|n| async move {
            for _ in 0..n {
                tokio::task::yield_now().await;
            }
            n
        });
        assert_eq!(join_all(futures).await, [3, 1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_or_failing_one_does_not_keep_the_next_from_answering() {
        let attempts: Vec<Attempt> = vec![
            Box::pin(pending()),
            Box::pin(ready(Err("refused"))),
            Box::pin(ready(Ok(7))),
        ];
        let answer = first_answer(attempts, Duration::from_millis(500)).await;
        assert_eq!(answer, Some(Ok(7)));
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_fail_the_last_error_is_told() {
        let attempts: Vec<Attempt> = vec![Box::pin(ready(Err("a"))), Box::pin(ready(Err("b")))];
        let answer = first_answer(attempts, Duration::from_millis(500)).await;
        assert_eq!(answer, Some(Err("b")));
        let none = first_answer(Vec::<Attempt>::new(), Duration::ZERO).await;
        assert_eq!(none, None);
    }
}
