package manage

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Base is what jobs live on.
type Base struct {
	Context context.Context // the life of all jobs
	Running *sync.WaitGroup // counts their goroutines; each ends with its job, which ends with Context
	// Done is told of a node that has succeeded, before anybody hears of it: who is told of a
	// success and looks then is to see it. It must return soon. nil: nobody wants to know.
	Done func(Node, Ask)
}

// Jobs are those that are running. It is safe for concurrent use.
type Jobs struct {
	base Base

	mu      sync.Mutex // guards what follows
	running map[string]*Job
}

// NewJobs makes a table without jobs.
func NewJobs(b Base) *Jobs { return &Jobs{base: b, running: make(map[string]*Job)} }

// A Job is an ask that runs on some nodes. It lives as long as somebody follows it: when the last
// Follower is closed, the requests to all nodes are canceled.
type Job struct {
	jobs   *Jobs
	key    string
	ask    Ask
	opts   Options
	cancel context.CancelFunc

	followers int // guarded by Jobs.mu

	mu      sync.Mutex // guards what follows
	runners []*runner
	all     steps
	left    int           // runners that have not ended
	changed chan struct{} // closed, and replaced, by each change
	over    chan struct{} // closed when the last runner has ended
}

// Follow joins the job that does the same on the same nodes, from where it is, or starts one. There
// must be a node. The caller closes the Follower.
func (j *Jobs) Follow(a Ask, nodes []Node, o Options) *Follower {
	key := keyOf(a, nodes)
	j.mu.Lock()
	defer j.mu.Unlock()
	job := j.running[key]
	if job == nil {
		job = j.startLocked(key, a, nodes, o.withDefaults())
	}
	job.followers++
	return &Follower{job: job}
}

// keyOf is what makes two jobs one: the same on the same nodes. A node that has taken the name of
// another one, as with a new configuration, is not the same.
func keyOf(a Ask, nodes []Node) string {
	parts := []string{a.Key}
	for _, n := range nodes {
		parts = append(parts, fmt.Sprintf("%s %p", n.Name(), n))
	}
	slices.Sort(parts[1:])
	return strings.Join(parts, "\x00")
}

func (j *Jobs) startLocked(key string, a Ask, nodes []Node, o Options) *Job {
	ctx, cancel := context.WithCancel(j.base.Context)
	job := &Job{jobs: j, key: key, ask: a, opts: o, cancel: cancel, changed: make(chan struct{}), over: make(chan struct{})}
	j.running[key] = job
	parts := make([][]Node, 0, len(nodes)) // each is done one after the other
	if a.One {
		parts = append(parts, nodes)
	} else {
		for i := range nodes {
			parts = append(parts, nodes[i:i+1])
		}
	}
	job.left = len(parts)
	for _, nodes := range parts {
		job.runners = append(job.runners, &runner{node: nodes[0]})
	}
	for i, nodes := range parts { // once all are there: the first to tell of something reads them all
		j.base.Running.Go(func() { job.run(ctx, job.runners[i], nodes) }) // ends with ctx
	}
	return job
}

// run has nodes do it until one has, or one has got somewhere.
func (j *Job) run(ctx context.Context, r *runner, nodes []Node) {
	var failure *Failure
	for i, n := range nodes {
		moved := false
		failure = j.ask.follow(ctx, n, j.opts, func(rec Record) {
			moved = moved || rec.Digest != ""
			j.change(func() bool { return r.note(rec) })
		})
		if failure == nil || moved || failure.Reason == Canceled || i == len(nodes)-1 {
			break
		}
		j.change(func() bool {
			r.failed = append(r.failed, Result{n, failure})
			r.node, r.steps = nodes[i+1], steps{}
			return true
		})
	}
	if failure == nil && j.jobs.base.Done != nil {
		j.jobs.base.Done(r.node, j.ask) // only this goroutine changes r.node
	}
	j.end(r, failure)
}

// change makes a change, and tells who follows unless there is nothing new.
func (j *Job) change(fresh func() bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if fresh() {
		j.tellLocked()
	}
}

func (j *Job) tellLocked() {
	merge(&j.all, j.runners)
	close(j.changed)
	j.changed = make(chan struct{})
}

// end takes a runner out. With the last one the job leaves the table, before its end can be read:
// who asks after the end asks anew.
func (j *Job) end(r *runner, failure *Failure) {
	j.mu.Lock()
	j.left--
	last := j.left == 0
	r.ended, r.failure = true, failure
	if !last {
		j.tellLocked()
	}
	j.mu.Unlock()
	if !last {
		return
	}
	j.jobs.forget(j)
	j.cancel()
	j.mu.Lock()
	j.tellLocked()
	close(j.over)
	j.mu.Unlock()
}

func (j *Jobs) forget(job *Job) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.forgetLocked(job)
}

func (j *Jobs) forgetLocked(job *Job) {
	if j.running[job.key] == job {
		delete(j.running, job.key)
	}
}

// pace is the least time between two looks of a follower: ten records a second are as many as a bar
// can show.
const pace = 100 * time.Millisecond

// A Follower reads the progress of a Job. It is not safe for concurrent use.
type Follower struct {
	job    *Job
	closed bool
	looked time.Time

	told   map[*step]int64 // of all together; what was completed
	byNode []map[*step]int64
	failed []int // of the failures of a runner, those that were told
}

// Close leaves the job. It may be called more than once.
func (f *Follower) Close() {
	if f.closed {
		return
	}
	f.closed = true
	j := f.job.jobs
	j.mu.Lock()
	defer j.mu.Unlock()
	if f.job.followers--; f.job.followers == 0 {
		j.forgetLocked(f.job) // nobody joins what is being canceled
		f.job.cancel()
	}
}

// Next waits for something new of all nodes together and gives it, at most ten times a second and
// without delay at the end. When over, nothing follows, and Results tells how it went: neither
// success nor failures are among the records. The error is that of ctx.
func (f *Follower) Next(ctx context.Context) (records []Record, over bool, err error) {
	if f.told == nil {
		f.told = make(map[*step]int64)
	}
	over, err = f.wait(ctx, func() bool {
		records = untold(records, &f.job.all, f.told)
		return len(records) > 0
	})
	return records, over, err
}

// An Update is something new of one node.
type Update struct {
	Node string
	Record
	Failure *Failure // the node has failed: the last update of it
	Done    bool     // the node has succeeded: the last update of it
}

// NextByNode is Next for who wants to know of each node. A Follower is read by one of the two.
func (f *Follower) NextByNode(ctx context.Context) (updates []Update, over bool, err error) {
	if f.byNode == nil {
		f.byNode, f.failed = make([]map[*step]int64, len(f.job.runners)), make([]int, len(f.job.runners))
		for i := range f.byNode {
			f.byNode[i] = make(map[*step]int64)
		}
	}
	over, err = f.wait(ctx, func() bool {
		for i, r := range f.job.runners {
			for _, past := range r.failed[min(f.failed[i], len(r.failed)):] {
				updates = append(updates, Update{Node: past.Node.Name(), Failure: past.Failure})
				f.failed[i]++
			}
			for _, rec := range untold(nil, &r.steps, f.byNode[i]) {
				updates = append(updates, Update{Node: r.node.Name(), Record: rec})
			}
			if r.ended && f.failed[i] == len(r.failed) {
				updates = append(updates, Update{Node: r.node.Name(), Failure: r.failure, Done: r.failure == nil})
				f.failed[i]++
			}
		}
		return len(updates) > 0
	})
	return updates, over, err
}

// untold appends what a follower has not been told of steps.
func untold(records []Record, s *steps, told map[*step]int64) []Record {
	for _, step := range s.all {
		if step.said == 0 {
			continue
		}
		was, known := told[step]
		if known && (step.Digest == "" || was == step.Completed) {
			continue
		}
		told[step] = step.Completed
		records = append(records, step.Record)
	}
	return records
}

// wait has look look, with the job locked, until it sees something or the job is over. Between two
// looks that saw something there is pace.
func (f *Follower) wait(ctx context.Context, look func() bool) (over bool, err error) {
	j := f.job
	if rest := pace - time.Since(f.looked); rest > 0 {
		timer := time.NewTimer(rest)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-j.over:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	for {
		j.mu.Lock()
		changed := j.changed
		select {
		case <-j.over:
			over = true
		default:
		}
		seen := look()
		j.mu.Unlock()
		if seen || over {
			f.looked = time.Now()
			return over, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// Results are what became of the nodes, in their order, once the job is over. Of an ask for One
// node only those are there that were asked.
func (f *Follower) Results() []Result {
	f.job.mu.Lock()
	defer f.job.mu.Unlock()
	var results []Result
	for _, r := range f.job.runners {
		results = append(append(results, r.failed...), Result{r.node, r.failure})
	}
	return results
}
