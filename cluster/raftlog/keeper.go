package raftlog

// touch tells the keeper that the index has facts to write.
func (l *Log) touch() {
	select {
	case l.dirtied <- struct{}{}:
	default: // the token is there
	}
}

// keep is the keeper: it has facts written that no commit took along.
func (l *Log) keep() {
	if l.opts.FlushInterval < 0 {
		return
	}
	for {
		select {
		case <-l.dirtied:
		case <-l.ctx.Done():
			return
		}
		if l.opts.Clock.Sleep(l.ctx, l.opts.FlushInterval) != nil {
			return
		}
		l.poke()
	}
}
