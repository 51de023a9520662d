//! Places boxes in layers so that edges run downwards, are short and seldom cross.
//!
//! The usual way (Sugiyama): an edge over several layers gets a waypoint in each; the order within layers follows the
//! mean of the neighbours' places; then each layer moves as near to its neighbours as the distances allow.

use std::collections::BTreeMap;

/// The space between boxes of a layer, and between layers, in pixels.
const BESIDE: i64 = 28;
const BETWEEN: i64 = 46;

/// The width that a waypoint takes.
const WAYPOINT: i64 = 8;

/// How often layers are ordered and moved; more changes nothing in runbooks of the size that is read.
const ROUNDS: usize = 12;

/// A box or a waypoint.
struct Item {
    width: i64,
    height: i64,
    /// The middle of its upper edge.
    x: i64,
    y: i64,
    above: Vec<usize>,
    below: Vec<usize>,
}

/// Where everything stands.
pub(crate) struct Layout {
    /// The middle of the upper edge of each box.
    pub(crate) places: Vec<(i64, i64)>,
    /// The points of each edge, in the order they were given: from the lower edge of a box to the upper of another.
    pub(crate) edges: Vec<Vec<(i64, i64)>>,
    pub(crate) width: i64,
    pub(crate) height: i64,
}

/// Places boxes of these sizes. `layers` holds the boxes of each layer; each edge runs to a later layer.
pub(crate) fn layout(
    sizes: &[(i64, i64)],
    layers: &[Vec<usize>],
    edges: &[(usize, usize)],
) -> Layout {
    let mut items: Vec<Item> = sizes
        .iter()
        .map(|(width, height)| Item {
            width: *width,
            height: *height,
            x: 0,
            y: 0,
            above: Vec::new(),
            below: Vec::new(),
        })
        .collect();
    let mut rows: Vec<Vec<usize>> = layers.to_vec();
    let chains: Vec<Vec<usize>> = edges
        .iter()
        .map(|edge| chain(&mut items, &mut rows, *edge))
        .collect();
    order(&items, &mut rows);
    let height = stack(&mut items, &rows);
    let width = align(&mut items, &rows);
    let at = |item: usize| items.get(item).map_or((0, 0), |item| (item.x, item.y));
    let edges = chains
        .iter()
        .map(|chain| {
            let last = chain.len().saturating_sub(1);
            let points = chain.iter().enumerate().flat_map(|(place, item)| {
                let (x, y) = at(*item);
                let below = y + items.get(*item).map_or(0, |item| item.height);
                // A waypoint is a short vertical piece through its layer.
                match place {
                    0 => vec![(x, below)],
                    place if place == last => vec![(x, y)],
                    _ => vec![(x, y), (x, below)],
                }
            });
            points.collect()
        })
        .collect();
    Layout {
        places: (0..sizes.len()).map(at).collect(),
        edges,
        width,
        height,
    }
}

/// The boxes and waypoints of an edge, from above to below.
fn chain(items: &mut Vec<Item>, rows: &mut [Vec<usize>], (from, to): (usize, usize)) -> Vec<usize> {
    let row_of = |rows: &[Vec<usize>], item: usize| rows.iter().position(|row| row.contains(&item));
    let (first, last) = (
        row_of(rows, from).unwrap_or(0),
        row_of(rows, to).unwrap_or(0),
    );
    let mut chain = vec![from];
    for row in rows.iter_mut().take(last).skip(first + 1) {
        row.push(items.len());
        chain.push(items.len());
        items.push(Item {
            width: WAYPOINT,
            height: 0,
            x: 0,
            y: 0,
            above: Vec::new(),
            below: Vec::new(),
        });
    }
    chain.push(to);
    for (upper, lower) in chain.iter().zip(chain.iter().skip(1)) {
        if let Some(item) = items.get_mut(*upper) {
            item.below.push(*lower);
        }
        if let Some(item) = items.get_mut(*lower) {
            item.above.push(*upper);
        }
    }
    chain
}

/// Orders each layer by the mean place of its neighbours above, then below, and keeps the order with the fewest
/// crossings.
fn order(items: &[Item], rows: &mut Vec<Vec<usize>>) {
    let mut best = (crossings(items, rows), rows.clone());
    for round in 0..ROUNDS {
        let down = round % 2 == 0;
        let count = rows.len();
        for step in 1..count {
            let at = if down { step } else { count - 1 - step };
            let fixed = if down {
                at.checked_sub(1)
            } else {
                Some(at + 1)
            };
            let places: BTreeMap<usize, usize> = fixed
                .and_then(|fixed| rows.get(fixed))
                .into_iter()
                .flatten()
                .enumerate()
                .map(|(place, item)| (*item, place))
                .collect();
            let Some(row) = rows.get_mut(at) else {
                continue;
            };
            let mut keyed: Vec<(i64, usize)> = row
                .iter()
                .enumerate()
                .map(|(place, item)| {
                    let near = items
                        .get(*item)
                        .map(|item| if down { &item.above } else { &item.below });
                    let found: Vec<i64> = near
                        .into_iter()
                        .flatten()
                        .filter_map(|n| places.get(n))
                        .map(|place| pixels(*place))
                        .collect();
                    (mean(&found).unwrap_or(pixels(place)), *item)
                })
                .collect();
            keyed.sort_by_key(|(key, _)| *key);
            *row = keyed.into_iter().map(|(_, item)| item).collect();
        }
        let found = crossings(items, rows);
        if found < best.0 {
            best = (found, rows.clone());
        }
    }
    *rows = best.1;
}

/// A place as a number that has room for means between places.
fn pixels(place: usize) -> i64 {
    i64::try_from(place).unwrap_or(i64::MAX / 4_096) * 1_024
}

fn mean(values: &[i64]) -> Option<i64> {
    let count = i64::try_from(values.len())
        .ok()
        .filter(|count| *count > 0)?;
    Some(values.iter().sum::<i64>().div_euclid(count))
}

fn crossings(items: &[Item], rows: &[Vec<usize>]) -> usize {
    let pairs = rows.iter().zip(rows.iter().skip(1));
    pairs
        .map(|(upper, lower)| {
            let places: BTreeMap<usize, usize> = lower
                .iter()
                .enumerate()
                .map(|(place, item)| (*item, place))
                .collect();
            let ends: Vec<(usize, usize)> = upper
                .iter()
                .enumerate()
                .flat_map(|(place, item)| {
                    let below = items.get(*item).map(|item| &item.below);
                    below
                        .into_iter()
                        .flatten()
                        .filter_map(|n| places.get(n))
                        .map(move |end| (place, *end))
                })
                .collect();
            ends.iter()
                .enumerate()
                .map(|(index, (a, b))| {
                    ends.iter()
                        .skip(index + 1)
                        .filter(|(c, d)| (a < c && b > d) || (a > c && b < d))
                        .count()
                })
                .sum::<usize>()
        })
        .sum()
}

/// Puts the layers under each other; a waypoint is as high as its layer. Gives the height of all.
fn stack(items: &mut [Item], rows: &[Vec<usize>]) -> i64 {
    let mut y = 0;
    for row in rows {
        let tallest = row
            .iter()
            .filter_map(|item| items.get(*item))
            .map(|item| item.height)
            .max()
            .unwrap_or(0);
        for item in row {
            if let Some(item) = items.get_mut(*item) {
                item.y = y;
                if item.width == WAYPOINT {
                    item.height = tallest;
                }
            }
        }
        y += tallest + BETWEEN;
    }
    (y - BETWEEN).max(0)
}

/// Moves each layer to where its neighbours are. Gives the width of all.
fn align(items: &mut [Item], rows: &[Vec<usize>]) -> i64 {
    for row in rows {
        let wanted = vec![0; row.len()];
        settle(items, row, &wanted);
    }
    for round in 0..=ROUNDS {
        let down = round % 2 == 0;
        let downwards = rows.iter();
        let upwards = rows.iter().rev();
        let sweep: Vec<&Vec<usize>> = if down {
            downwards.collect()
        } else {
            upwards.collect()
        };
        for row in sweep {
            let wanted: Vec<i64> = row
                .iter()
                .map(|item| {
                    let Some(item) = items.get(*item) else {
                        return 0;
                    };
                    let near = if down { &item.above } else { &item.below };
                    let places: Vec<i64> = near
                        .iter()
                        .filter_map(|n| items.get(*n))
                        .map(|n| n.x)
                        .collect();
                    mean(&places).unwrap_or(item.x)
                })
                .collect();
            settle(items, row, &wanted);
        }
    }
    let left = items
        .iter()
        .map(|item| item.x - item.width / 2)
        .min()
        .unwrap_or(0);
    for item in items.iter_mut() {
        item.x -= left;
    }
    items
        .iter()
        .map(|item| item.x + item.width / 2)
        .max()
        .unwrap_or(0)
}

/// Puts the items of a layer as near to the wanted places as their order and distances allow: those that would
/// overlap form a block around the mean of what they want (isotonic regression).
fn settle(items: &mut [Item], row: &[usize], wanted: &[i64]) {
    let mut offset = 0;
    let mut before: Option<i64> = None;
    // Each block: the sum of what its members want without their offsets, and how many they are.
    let mut blocks: Vec<(i64, i64)> = Vec::new();
    let mut offsets = Vec::new();
    for (item, want) in row.iter().zip(wanted) {
        let width = items.get(*item).map_or(0, |item| item.width);
        if let Some(before) = before {
            offset += i64::midpoint(before, width) + BESIDE;
        }
        before = Some(width);
        offsets.push(offset);
        let mut block = (want - offset, 1);
        while let Some(last) = blocks.last().copied() {
            if last.0 * block.1 < block.0 * last.1 {
                break;
            }
            blocks.pop();
            block = (last.0 + block.0, last.1 + block.1);
        }
        blocks.push(block);
    }
    let starts = blocks.iter().flat_map(|(sum, count)| {
        let start = sum.div_euclid(*count);
        (0..*count).map(move |_| start)
    });
    let places: Vec<i64> = starts
        .zip(&offsets)
        .map(|(start, offset)| start + offset)
        .collect();
    for (item, x) in row.iter().zip(places) {
        if let Some(item) = items.get_mut(*item) {
            item.x = x;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn boxes_never_overlap_and_edges_run_down(
            rows in proptest::collection::vec(1usize..5, 1..6),
            picks in proptest::collection::vec((0usize..100, 0usize..100), 0..20),
        ) {
            let mut layers = Vec::new();
            let mut count = 0;
            for size in rows {
                layers.push((count..count + size).collect::<Vec<usize>>());
                count += size;
            }
            let row_of = |item: usize| layers.iter().position(|row| row.contains(&item)).unwrap();
            let edges: Vec<(usize, usize)> = picks.iter().map(|(a, b)| (a % count, b % count)).filter(|(a, b)| row_of(*a) < row_of(*b)).collect();
            let sizes: Vec<(i64, i64)> = (0..count).map(|n| (100 + i64::try_from(n).unwrap() * 7, 40)).collect();
            let layout = layout(&sizes, &layers, &edges);
            for row in &layers {
                let mut spans: Vec<(i64, i64)> = row.iter().map(|n| (layout.places[*n].0 - sizes[*n].0 / 2, layout.places[*n].0 + sizes[*n].0 / 2)).collect();
                spans.sort_unstable();
                proptest::prop_assert!(spans.windows(2).all(|pair| pair[0].1 < pair[1].0), "{spans:?}");
            }
            for (points, (from, to)) in layout.edges.iter().zip(&edges) {
                proptest::prop_assert_eq!(points[0], (layout.places[*from].0, layout.places[*from].1 + 40));
                proptest::prop_assert_eq!(*points.last().unwrap(), layout.places[*to]);
                proptest::prop_assert!(points.windows(2).all(|pair| pair[0].1 <= pair[1].1));
            }
        }
    }
}
