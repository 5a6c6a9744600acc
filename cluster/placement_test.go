package cluster

import "testing"

func TestReplicasAreSpreadOverRacks(t *testing.T) {
	t.Parallel()
	s := newMetaState()
	for id, rack := range map[int32]string{1: "a", 2: "a", 3: "a", 4: "b", 5: "c"} {
		s.brokers[id] = brokerRecord{ID: id, Rack: rack}
	}
	placed, err := (&Node{}).place(s, 12, 3)
	if err != nil {
		t.Fatal(err)
	}
	load := map[int32]int{}
	for i, brokers := range placed {
		racks := map[string]bool{}
		for _, b := range brokers {
			racks[s.brokers[b].Rack] = true
			load[b]++
		}
		if len(racks) != 3 {
			t.Errorf("partition %d is on %v", i, brokers)
		}
	}
	if load[1] != 4 || load[2] != 4 || load[3] != 4 {
		t.Errorf("within a rack the load is uneven: %v", load)
	}
	// A replica that has to go elsewhere goes to the rack that has none.
	shard := shardRecord{Replicas: []replicaRecord{{Broker: 1}, {Broker: 4}}}
	if b, ok := s.nextBroker(map[int32]int{1: 0, 2: 0, 3: 0, 4: 0, 5: 9}, shard); !ok || b != 5 {
		t.Errorf("broker %d", b)
	}
}
