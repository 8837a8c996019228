package main

import (
	"fmt"
	"slices"
	"strings"
)

// A selection is what shall be measured.
type selection struct {
	scenarios []scenario
	drills    []drill
	crowds    []crowd
	routings  []routing
	caches    []scenario
	hoards    []hoard
	sharings  []scenario
	watchings []scenario
	blogs     []scenario
}

func everything(s settings) selection {
	return selection{scenarios(s), drills(), crowds(s.quick), routings(), cacheScenarios(s), hoards(s.quick), sharingScenarios(s), telemetryScenarios(s), blogScenarios(s)}
}

func (s *selection) names() (names []string) {
	for _, sc := range s.scenarios {
		names = append(names, sc.name)
	}
	for _, d := range s.drills {
		names = append(names, d.name)
	}
	for _, c := range s.crowds {
		names = append(names, c.name)
	}
	for _, r := range s.routings {
		names = append(names, r.name())
	}
	for _, sc := range s.caches {
		names = append(names, sc.name)
	}
	for _, h := range s.hoards {
		names = append(names, h.name)
	}
	for _, sc := range s.sharings {
		names = append(names, sc.name)
	}
	for _, sc := range slices.Concat(s.watchings, s.blogs) {
		names = append(names, sc.name)
	}
	return names
}

// choose keeps what has one of the comma-separated parts in its name.
func (s *selection) choose(parts string) error {
	if parts == "all" {
		return nil
	}
	other := func(name string) bool {
		return !slices.ContainsFunc(strings.Split(parts, ","), func(part string) bool { return strings.Contains(name, part) })
	}
	all := s.names()
	s.scenarios = slices.DeleteFunc(s.scenarios, func(sc scenario) bool { return other(sc.name) })
	s.drills = slices.DeleteFunc(s.drills, func(d drill) bool { return other(d.name) })
	s.crowds = slices.DeleteFunc(s.crowds, func(c crowd) bool { return other(c.name) })
	s.routings = slices.DeleteFunc(s.routings, func(r routing) bool { return other(r.name()) })
	s.caches = slices.DeleteFunc(s.caches, func(sc scenario) bool { return other(sc.name) })
	s.hoards = slices.DeleteFunc(s.hoards, func(h hoard) bool { return other(h.name) })
	s.sharings = slices.DeleteFunc(s.sharings, func(sc scenario) bool { return other(sc.name) })
	s.blogs = slices.DeleteFunc(s.blogs, func(sc scenario) bool { return other(sc.name) })
	s.watchings = slices.DeleteFunc(s.watchings, func(sc scenario) bool { return other(sc.name) })
	if len(s.names()) == 0 {
		return fmt.Errorf("no scenario %q; there are %s", parts, strings.Join(all, ", "))
	}
	return nil
}

// results are what a selection has shown.
type results struct {
	scenarios []result // those of the cache, of what is answered together, of telemetry and of the blog, too
	drills    []drillResult
	crowds    []crowdResult
	routings  []routingResult
	hoards    []hoardResult
}
