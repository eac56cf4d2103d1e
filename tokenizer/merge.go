package tokenizer

import "slices"

// shortPiece is the number of tokens up to which scanning for the next merge is
// faster than a queue. Words are far shorter.
const shortPiece = 48

// mergeShort merges w.ids in place by looking for the earliest merge again
// after each.
func (p *pairs) mergeShort(w *work) []ID {
	ids := w.ids
	ranks := w.ranks[:0]
	for i := 1; i < len(ids); i++ {
		ranks = append(ranks, p.rank(ids[i-1], ids[i]))
	}
	for len(ranks) > 0 {
		at := 0
		for i, r := range ranks {
			if r < ranks[at] {
				at = i
			}
		}
		if ranks[at] == noRank {
			break
		}
		w.steps++
		ids[at] = p.merged[ranks[at]]
		ids = slices.Delete(ids, at+1, at+2)
		ranks = slices.Delete(ranks, at, at+1)
		if at > 0 {
			ranks[at-1] = p.rank(ids[at-1], ids[at])
		}
		if at < len(ranks) {
			ranks[at] = p.rank(ids[at], ids[at+1])
		}
	}
	w.ranks = ranks
	return ids
}

// mergeLong merges w.ids and adds the rest to the output, in n log n steps: the
// tokens are a linked list, and a queue holds the merge of each token with its
// right neighbour.
//
// An entry is rank<<32 | place of the left token, so the smallest is the
// earliest merge and of those the leftmost. Entries aren't taken back when
// their tokens change: w.ranks has the rank that is true now for each place,
// and an entry that differs is passed over. A place never has the same pair
// twice, as tokens only grow, so no entry counts twice.
func (p *pairs) mergeLong(w *work) error {
	ids, n := w.ids, int32(len(w.ids))
	next, prev, ranks, queue := w.list(int(n))

	for i := range n {
		if err := w.spend(1); err != nil {
			return err
		}
		next[i], prev[i], ranks[i] = i+1, i-1, noRank
		if i+1 < n {
			ranks[i] = p.rank(ids[i], ids[i+1])
		}
		if ranks[i] != noRank {
			queue = append(queue, uint64(ranks[i])<<32|uint64(i))
		}
	}
	for i := len(queue)/2 - 1; i >= 0; i-- {
		w.steps += down(queue, i)
		if err := w.spend(1); err != nil {
			return err
		}
	}
	update := func(i int32) {
		ranks[i] = noRank
		if j := next[i]; j < n {
			ranks[i] = p.rank(ids[i], ids[j])
		}
		if ranks[i] != noRank {
			queue = append(queue, uint64(ranks[i])<<32|uint64(i))
			w.steps += up(queue)
		}
	}
	for len(queue) > 0 {
		rank, i := uint32(queue[0]>>32), int32(uint32(queue[0]))
		queue = w.pop(queue)
		if err := w.spend(1); err != nil {
			return err
		}
		if ranks[i] != rank {
			continue
		}
		gone := next[i]
		ids[i] = p.merged[rank]
		ranks[gone] = noRank
		next[i] = next[gone]
		if next[i] < n {
			prev[next[i]] = i
		}
		update(i)
		if prev[i] >= 0 {
			update(prev[i])
		}
	}
	for i := int32(0); i < n; i = next[i] {
		if err := w.add(ids[i]); err != nil {
			return err
		}
	}
	return nil
}

// list is the memory for merging n tokens: the list of them, the rank of each with
// its right neighbour, and an empty queue. Each merge takes one entry of the queue
// and adds up to two.
func (w *work) list(n int) (next, prev []int32, ranks []uint32, queue []uint64) {
	w.next = slices.Grow(w.next[:0], n)[:n]
	w.prev = slices.Grow(w.prev[:0], n)[:n]
	w.ranks = slices.Grow(w.ranks[:0], n)[:n]
	w.queue = slices.Grow(w.queue[:0], 2*n)
	return w.next, w.prev, w.ranks, w.queue
}

// pop takes the first entry off the queue.
func (w *work) pop(queue []uint64) []uint64 {
	last := len(queue) - 1
	queue[0] = queue[last]
	queue = queue[:last]
	w.steps += 1 + down(queue, 0)
	return queue
}

// down lets the entry at i sink to its place in the heap and returns the number
// of levels it sank.
func down(heap []uint64, i int) (steps int) {
	for ; ; steps++ {
		least := 2*i + 1
		if least >= len(heap) {
			return steps
		}
		if right := least + 1; right < len(heap) && heap[right] < heap[least] {
			least = right
		}
		if heap[i] <= heap[least] {
			return steps
		}
		heap[i], heap[least] = heap[least], heap[i]
		i = least
	}
}

// up lets the last entry rise to its place in the heap and returns the number
// of levels it rose.
func up(heap []uint64) (steps int) {
	for i := len(heap) - 1; i > 0; steps++ {
		parent := (i - 1) / 2
		if heap[parent] <= heap[i] {
			break
		}
		heap[i], heap[parent] = heap[parent], heap[i]
		i = parent
	}
	return steps
}
